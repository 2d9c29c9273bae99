"""One level of load: its clock, the requests in flight, their records, and its stop rules. Never imports `worker`."""
