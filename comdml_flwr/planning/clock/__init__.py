"""The virtual clock and the modelled rounds that it times."""
