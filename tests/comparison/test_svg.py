"""Figures as they stand in a page."""

from comdml_flwr.comparison.svg import inline

FIGURE = """<?xml version="1.0"?>
<svg viewBox="0 0 10 10"><path d="M 1.23456 -0.98765
L 2.00001 3"/><text x="4.56789">lr 0.001, to 0.975</text></svg>
"""


def test_coordinates_are_short_and_what_people_read_is_as_it_was():
    page = inline(FIGURE, "key", "title")
    assert 'd="M 1.23 -0.99\nL 2 3"' in page
    assert '<text x="4.57">lr 0.001, to 0.975</text>' in page
