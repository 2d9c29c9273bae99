"""When a probe runs: its place in time (APScheduler), its turn among others (admission), whether it may (gate), and
whose it is where several daemons share a configuration (sharding). Never imports what makes load."""
