"""A page that the tests of its text and those of its looks share."""

import pytest

from comdml_flwr.comparison.report import write_report
from tests.comparison.folders import MAIN_METHODS, made_up_case, write_folder


@pytest.fixture(scope="session")
def page_file(tmp_path_factory):
    """The largest table that we make, and a case of so many agents that figures show them otherwise."""
    keys = {"num_rounds": 8, "seeds": (1, 2)}
    cases = {
        "10 agents, IID": made_up_case(MAIN_METHODS, num_agents=10, **keys),
        "100 agents": made_up_case(("ComDML", "FedAvg"), num_agents=100, **keys),
    }
    many = cases["100 agents"]
    many["A label that is too long for <any> figure"] = many.pop("ComDML")
    folder = write_folder(tmp_path_factory.mktemp("main"), cases, targets=(0.8, 0.9), reference="FedAvg")
    return write_report(folder)
