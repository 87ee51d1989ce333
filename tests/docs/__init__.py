"""Tests of the documents: commands, links, and what is generated."""
