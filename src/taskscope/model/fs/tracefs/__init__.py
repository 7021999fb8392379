"""fs/tracefs/ of the kernel's tree."""
