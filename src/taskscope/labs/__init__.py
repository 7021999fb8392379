"""Labs: scenarios, what must be seen in them, and the machines they run on."""
