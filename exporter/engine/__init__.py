"""One level of load: its clock, the requests in flight, their records, and the rules that stop it. Never imports
`worker`."""
