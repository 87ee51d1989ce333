"""Tests of comdml_flwr/flower/clientapp."""
