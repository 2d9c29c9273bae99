"""Comparisons of this project's load with its peers, on one embedded Triton. Not part of the product."""
