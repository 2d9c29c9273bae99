"""What `analyze` prints and writes: terminal, CSV, JSON, plot and profile export. Never measures."""
