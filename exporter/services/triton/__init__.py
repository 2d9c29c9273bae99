"""Triton Inference Server over HTTP and gRPC. Never paces or cuts windows."""
