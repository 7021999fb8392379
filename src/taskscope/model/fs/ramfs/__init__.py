"""fs/ramfs/ of the kernel's tree."""
