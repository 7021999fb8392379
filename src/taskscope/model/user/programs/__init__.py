"""What runs on the machine: the programs in its /bin."""
