"""Tests of comdml_flwr/core."""
