"""drivers/watchdog/."""
