"""drivers/misc of the kernel's tree."""
