"""Tests of comdml_flwr/flower/serverapp."""
