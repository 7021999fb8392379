"""user/ of the kernel's tree."""
