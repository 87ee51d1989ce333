"""Tests of experiments/testbed."""
