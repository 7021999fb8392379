"""Real recordings: event formats, ring-buffer pages, trace.dat, folders of raw pages, ftrace text."""
