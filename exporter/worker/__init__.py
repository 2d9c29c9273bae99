"""The process that runs the engine, its IPC, and groups of such processes. Never knows what a figure means."""
