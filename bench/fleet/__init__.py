"""A fleet made up: 10,000 endpoints in 3,000 groups on 12 shards, run by the product's own schedule, sharding, locks,
state and pages. `python -m bench.fleet --help`."""
