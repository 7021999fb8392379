"""What became of each task: birth, execs, state intervals, wakeups, signals, death, its cause, reaping."""
