"""Tests of what an agent knows of its peers."""
