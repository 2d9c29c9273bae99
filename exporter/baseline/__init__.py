"""Pins, verdicts and the files that keep them. Never imports the engine or the web side."""
