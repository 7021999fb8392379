"""drivers/tty/ of the kernel's tree."""
