"""What a user may say: one YAML file and the environment, checked as a whole before anything runs."""

from exporter.config.estimate import Estimate, estimate
from exporter.config.loading import load
from exporter.config.probes import build_budget, build_maintenance, build_probes
from exporter.config.report import check_report
from exporter.config.settings import Settings

__all__ = [
    "Estimate",
    "Settings",
    "build_budget",
    "build_maintenance",
    "build_probes",
    "check_report",
    "estimate",
    "load",
]
