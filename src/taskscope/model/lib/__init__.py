"""lib/ of the kernel's tree."""
