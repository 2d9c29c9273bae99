"""Locks and atomic files. Never imports anything else of ours."""
