"""Carriers run phases and move envelopes between agents."""
