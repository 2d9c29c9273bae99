"""What each probe is now, kept over a restart. Never renders anything."""
