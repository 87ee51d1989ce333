"""Tests of comdml_flwr/methods/phases."""
