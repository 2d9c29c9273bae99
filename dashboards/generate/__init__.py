"""Makes the dashboards' JSON: `python -m dashboards.generate` writes it, a test holds it equal to the code."""
