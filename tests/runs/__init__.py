"""Tests of comdml_flwr/runs."""
