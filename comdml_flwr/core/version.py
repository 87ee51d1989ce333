"""The version of this package, and where its code lies."""

from pathlib import Path

__version__ = "0.1.0"

PACKAGE = Path(__file__).resolve().parent.parent
CODE_FOLDER = PACKAGE.parent
"""The folder that our code was imported from: the checkout, site-packages, or what Flower made of an app."""
