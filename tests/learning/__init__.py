"""Tests of comdml_flwr/learning."""
