"""arch/arm/mm of the kernel's tree."""
