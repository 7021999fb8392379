"""drivers/mmc/ of the kernel's tree."""
