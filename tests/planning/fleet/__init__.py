"""Tests of comdml_flwr/planning/fleet."""
