"""The lease that decides which daemon of a pair measures. Never imports the load, the schedule or the web side."""
