"""init/ of the kernel's tree."""
