"""Tests of the doctor; places.py has what it meets."""
