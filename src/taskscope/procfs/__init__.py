"""Task descriptors as /proc tells them, to anybody: `taskscope.procfs.snapshot.snapshot`."""
