"""drivers/irqchip/ of the kernel's tree."""
