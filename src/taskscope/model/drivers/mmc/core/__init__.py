"""drivers/mmc/core/ of the kernel's tree."""
