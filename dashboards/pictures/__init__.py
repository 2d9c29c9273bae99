"""Pictures of the boards, from a real Prometheus: `make pictures`."""
