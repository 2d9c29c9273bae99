"""Grafana dashboards, as code and as the JSON that it makes."""
