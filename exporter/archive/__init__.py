"""The CSV archive: its columns, rows and files. Never imports anything of Prometheus."""
