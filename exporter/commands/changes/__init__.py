"""The command `changes`: when a level of the archive changed. Never imports the daemon or another command."""
