"""Triton as a library in the worker's own process. Never paces or cuts windows."""
