"""arch/x86/ of the kernel's tree."""
