"""The command `check-config`: what is wrong with a configuration, or what it will cost."""
