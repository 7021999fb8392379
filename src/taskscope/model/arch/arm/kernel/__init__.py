"""arch/arm/kernel/."""
