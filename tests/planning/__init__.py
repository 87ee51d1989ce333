"""Tests of comdml_flwr/planning."""
