"""kernel/locking/ of the kernel's tree."""
