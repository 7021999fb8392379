"""drivers/staging/android of the kernel's tree."""
