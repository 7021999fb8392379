"""arch/arm/ of the kernel's tree."""
