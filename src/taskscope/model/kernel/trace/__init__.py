"""kernel/trace/ of the kernel's tree."""
