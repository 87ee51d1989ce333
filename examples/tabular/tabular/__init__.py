"""Regression on a table of which every node has rows of its own."""
