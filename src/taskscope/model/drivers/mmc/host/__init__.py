"""drivers/mmc/host/ of the kernel's tree."""
