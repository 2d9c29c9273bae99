"""`triton-canary compare`: what differs between sweeps. Never imports another command."""
