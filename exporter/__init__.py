"""Triton Canary: measures inference servers from the client's side, continuously and safely in production."""

__version__ = "0.2.0"
