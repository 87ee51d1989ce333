"""Tests of comdml_flwr/carriers/transport."""
