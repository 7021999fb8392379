"""arch/x86/kernel/."""
