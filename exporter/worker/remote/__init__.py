"""Workers on other machines, beside the workers of Dask. Only this package knows `distributed`, an optional extra."""
