"""Those who take in what happened: the board and the metrics page, the archive, baselines, the log, and reports."""
