"""The daemon's composition: start, reload, sweeps on demand, end. Never imports wire formats."""
