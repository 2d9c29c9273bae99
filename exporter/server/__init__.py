"""What the server says of itself. Knows nothing of what the client saw."""
