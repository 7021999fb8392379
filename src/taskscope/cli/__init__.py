"""The commands, one file each: parse, call a view, print.  Nothing but this room prints."""
