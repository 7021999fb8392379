"""A real kernel in QEMU: where it comes from, what it boots with, and talking to it."""
