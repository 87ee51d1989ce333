"""Tests of comdml_flwr/planning/solvers."""
