"""The method that docs/development/adding_a_method.md adds, as its reader would add it."""

import sys
import types

from comdml_flwr.runs import catalogue
from tests.docs.commands import ROOT, blocks

PAGE = ROOT / "docs" / "development" / "adding_a_method.md"
NAME = "comdml_flwr.methods.diloco"


def add_method(monkeypatch):
    """Add the page's method to the package; return its module."""
    method, entry, _ = blocks(PAGE, "python")
    module = types.ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    exec(compile(method, f"{PAGE.name}, the method", "exec"), module.__dict__)
    for name, program in eval(entry, {"diloco": module}).items():
        monkeypatch.setitem(catalogue.SERVERLESS, name, program)
    monkeypatch.setattr(catalogue, "METHODS", (*catalogue.SERVERLESS, *catalogue.WITH_SERVER))
    return module


def page_test():
    """Return the page's test of its method."""
    namespace = {}
    exec(compile(blocks(PAGE, "python")[2], f"{PAGE.name}, the test", "exec"), namespace)
    (test,) = (value for name, value in namespace.items() if name.startswith("test_"))
    return test
