"""kernel/rcu/ of the kernel's tree."""
