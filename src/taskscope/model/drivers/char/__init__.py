"""drivers/char/ of the kernel's tree."""
