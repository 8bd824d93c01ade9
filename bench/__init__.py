"""How fast limner is beside its peers: one command a table, `python -m bench TABLE`."""
