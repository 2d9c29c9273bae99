"""`python -m exporter` is `triton-canary`."""

from exporter.cli import main

if __name__ == "__main__":
    main()
