"""Making load: the engine and its clock, the rules that stop it, and the worker processes that it runs in."""
