"""drivers/base/."""
