"""What the kernel shares with programs: include/uapi/."""
