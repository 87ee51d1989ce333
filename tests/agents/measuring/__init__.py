"""Tests of comdml_flwr/agents/measuring."""
