"""arch/x86/mm of the kernel's tree."""
