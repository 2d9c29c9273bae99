"""What is sent: tensors made for a model. Knows nothing of wire formats or pacing."""

from exporter.payload.generate import make_steps

__all__ = ["make_steps"]
