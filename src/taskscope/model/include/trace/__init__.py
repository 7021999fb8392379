"""include/trace/ of the kernel's tree."""
