"""include/trace/events/ of the kernel's tree."""
