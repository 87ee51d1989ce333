"""Everything that imports flwr: the grid carrier, the peer strategy and the peer ClientApp."""
