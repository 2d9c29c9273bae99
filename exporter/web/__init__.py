"""The HTTP side of the daemon: its paths, who may use them, and the server under them. Never imports `sweep`."""
