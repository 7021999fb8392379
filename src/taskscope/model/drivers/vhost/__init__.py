"""drivers/vhost/ of the kernel's tree."""
