"""The report of one or more runs: a page that needs no network."""
