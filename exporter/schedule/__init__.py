"""When a probe runs: its place in time (APScheduler), its turn among others (admission), and jumps of the clock."""
