"""drivers/misc/lkdtm of the kernel's tree."""
