"""`triton-canary analyze`: perf_analyzer's command line, one sweep, its report. Never imports another command."""
