"""Tests of comdml_flwr/carriers/direct."""
