"""Tests of comdml_flwr/carriers/sealed."""
