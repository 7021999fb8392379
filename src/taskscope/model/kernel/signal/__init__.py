"""kernel/signal/ of the kernel's tree."""
