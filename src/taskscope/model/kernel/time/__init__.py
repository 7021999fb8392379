"""kernel/time/ of the kernel's tree."""
