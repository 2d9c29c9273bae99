"""Targets and models that come and go: what lists, names and servers say there is, and the probes that follow. Never
imports `engine`."""
