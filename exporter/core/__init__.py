"""Frozen types and closed lists shared by all packages. Imports no other package of ours."""
