"""block/ of the kernel's tree."""
