"""The tasks of this machine as /proc tells them, to anyone who may read it (proc(5))."""
