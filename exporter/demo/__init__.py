"""A real Triton on this machine, its sample models, and a demonstration of the daemon against it."""
