"""The executable kernel: Linux's process subsystem in Python, in the kernel's own tree; see README.md here."""
