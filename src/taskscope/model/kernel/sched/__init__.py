"""kernel/sched/ of the kernel's tree."""
