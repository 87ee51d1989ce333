"""Tests of comdml_flwr/cli."""
