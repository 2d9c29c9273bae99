"""perf_analyzer's flags, and our own: from a command line to a configuration document, or to all that is wrong."""

from exporter.commands.analyze.flags.command_line import CommandLine, parse
from exporter.commands.analyze.flags.draft import RunOptions

__all__ = ["CommandLine", "RunOptions", "parse"]
