"""arch/x86/kernel/apic/ of the kernel's tree."""
