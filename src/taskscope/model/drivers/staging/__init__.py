"""drivers/staging of the kernel's tree."""
