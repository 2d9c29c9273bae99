"""What a user may configure: one YAML file and the environment, checked as a whole before anything runs."""

from exporter.config.loading import load
from exporter.config.probes import build_budget, build_maintenance, build_probes
from exporter.config.settings import Settings

__all__ = ["Settings", "build_budget", "build_maintenance", "build_probes", "load"]
