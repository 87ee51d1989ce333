"""Versions, imports and the digest of the code."""

import sys

from comdml_flwr.cli.doctor.software import (
    Needed,
    check_code,
    check_imports,
    check_packages,
    check_python,
    needed_here,
)
from comdml_flwr.core.code_digest import code_digest


def test_this_checkout_needs_what_its_pyproject_says():
    needed = needed_here()
    assert needed.python == ">=3.11"
    assert "flwr[simulation]>=1.41,<2" in needed.packages
    assert check_python(needed).state == "ok"
    (finding,) = check_packages(needed)
    assert finding.state == "ok"
    assert "flwr 1." in finding.says


def test_another_python_and_packages_out_of_range_or_missing_are_wrong():
    needed = Needed(python=">=99", packages=["flwr[simulation]<1", "no-such-package>=1", "torch>=2"])
    assert check_python(needed).state == "wrong"
    old, missing = check_packages(needed)
    assert (old.state, missing.state) == ("wrong", "wrong")
    assert "is not in <1" in old.says
    assert old.mend == "pip install 'flwr[simulation]<1'"
    assert missing.says == "no-such-package is not installed"


def test_torchvision_is_asked_for_where_the_data_set_needs_it():
    assert [finding.check for finding in check_imports("digits")] == ["torch"]
    assert [finding.check for finding in check_imports("cifar-10")] == ["torch", "torchvision"]


def test_a_torchvision_that_does_not_go_with_torch_is_wrong(here, monkeypatch):
    """It fails as one does whose operators were built for another torch."""
    (here / "torchvision.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')")
    monkeypatch.syspath_prepend(here)
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        monkeypatch.delitem(sys.modules, name)
    torch, vision = check_imports("cifar-10")
    assert (torch.state, vision.state) == ("ok", "wrong")
    assert "nms does not exist" in vision.says


def test_the_code_is_told_by_the_digest_that_runs_compare():
    assert check_code().facts["sha256"] == code_digest()
