"""kernel/irq/ of the kernel's tree."""
