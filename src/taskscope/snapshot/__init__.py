"""The shape of the tasks at one moment."""
