"""The names that users import from the package itself."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import comdml_flwr


@pytest.mark.parametrize("name", sorted({*comdml_flwr.__all__} - {"__version__"}))
def test_a_public_name_is_what_its_module_defines(name):
    value = getattr(comdml_flwr, name)
    assert value.__name__ == name
    assert value.__module__.startswith("comdml_flwr.")
    assert value.__doc__


def test_types_and_names_say_the_same():
    """What type checkers see is what is loaded: the same names from the same modules."""
    tree = ast.parse(Path(comdml_flwr.__file__).read_text())
    (checked,) = (node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: node.module for node in checked.body for alias in node.names}
    assert seen == {name: f"comdml_flwr.{module}" for name, module in comdml_flwr._MODULES.items()}
    assert {*comdml_flwr.__all__} == {*seen, "__version__"}


def test_a_name_that_is_not_there_is_named():
    with pytest.raises(AttributeError, match="no attribute 'Plam'"):
        _ = comdml_flwr.Plam
    assert {*comdml_flwr.__all__} <= {*dir(comdml_flwr)}


def test_planning_loads_neither_torch_nor_flower():
    code = """
import sys
from comdml_flwr import pair_agents, parse_fleet, plan
text = "[[cuts]]\\nslow_share = 0.3\\nfast_share = 0.8\\nbytes_per_batch = 1e5\\n"
for agent, speed in ((0, 1), (1, 9)):
    text += f"[[agents]]\\nid = {agent}\\nbatches_per_s = {speed}\\nnum_batches = 10\\n"
found = plan(parse_fleet(text + "[links]\\nbandwidth_mbps = 100\\n", "two"))
assert [(pair.slow, pair.fast) for pair in found.pairs] == [(0, 1)], found
assert not {"torch", "flwr"} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
