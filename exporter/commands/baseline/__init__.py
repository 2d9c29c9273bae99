"""The command `baseline`: shows and changes baselines of the running daemon."""
