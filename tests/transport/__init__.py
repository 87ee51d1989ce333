"""Tests of the transport; meetings.py has what they share."""
