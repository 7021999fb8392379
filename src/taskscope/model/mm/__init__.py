"""mm/ of the kernel's tree."""
