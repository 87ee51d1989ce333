"""Tests of comdml_flwr/comparison."""
