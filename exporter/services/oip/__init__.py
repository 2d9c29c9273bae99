"""The Open Inference Protocol (v2), which Triton extends. Never imports Triton's own kinds, paces or cuts windows."""
