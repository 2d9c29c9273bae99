"""Targets and models that come and go: what lists, names and servers contain, and the probes that follow. Never
imports `engine`."""
