"""What the whole package shares: errors, units, seeds, configuration, mail, programs; no torch, no flwr."""
