"""ComDML for Flower: workload balancing for training without a server.

The method: S. M. Sajjadi Mohammadabadi, L. Yang, F. Yan, J. Zhang, "Communication-Efficient Training
Workload Balancing for Decentralized Multi-Agent Learning", IEEE ICDCS 2024, pp. 680-691, arXiv 2405.00839.

The names of `__all__` are the public interface. Importing this package opens nothing and loads neither torch
nor flwr: a public name's module is loaded when the name is first used (PEP 562).
"""

from importlib import import_module
from typing import TYPE_CHECKING

from comdml_flwr.core.version import __version__

if TYPE_CHECKING:
    from comdml_flwr.core.errors import ComdmlError, InputError, RunError
    from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
    from comdml_flwr.flower.serverapp.peer_server_app import peer_server_app
    from comdml_flwr.flower.serverapp.peer_strategy import PeerStrategy
    from comdml_flwr.learning.data.dataset import Dataset
    from comdml_flwr.learning.data.source import Place
    from comdml_flwr.learning.models.cutting import cut_at
    from comdml_flwr.learning.task import Classification
    from comdml_flwr.learning.tasks.language_model import LanguageModel
    from comdml_flwr.learning.tasks.multi_label import MultiLabel
    from comdml_flwr.learning.tasks.own_task import OwnTask
    from comdml_flwr.learning.tasks.regression import Regression
    from comdml_flwr.learning.tasks.segmentation import Segmentation
    from comdml_flwr.planning.fleet.fleet import Fleet
    from comdml_flwr.planning.fleet.fleet_file import load_fleet, parse_fleet
    from comdml_flwr.planning.pairing import pair_agents
    from comdml_flwr.planning.types import Pair, Plan, Profile
    from comdml_flwr.runs.catalogue import Catalogue
    from comdml_flwr.runs.local_run import run_locally
    from comdml_flwr.runs.own_app import load_app
    from comdml_flwr.runs.planned import plan

_MODULES = {
    "Catalogue": "runs.catalogue",
    "Classification": "learning.task",
    "ComdmlError": "core.errors",
    "Dataset": "learning.data.dataset",
    "Fleet": "planning.fleet.fleet",
    "InputError": "core.errors",
    "LanguageModel": "learning.tasks.language_model",
    "MultiLabel": "learning.tasks.multi_label",
    "OwnTask": "learning.tasks.own_task",
    "Pair": "planning.types",
    "PeerStrategy": "flower.serverapp.peer_strategy",
    "Place": "learning.data.source",
    "Plan": "planning.types",
    "Profile": "planning.types",
    "Regression": "learning.tasks.regression",
    "RunError": "core.errors",
    "Segmentation": "learning.tasks.segmentation",
    "cut_at": "learning.models.cutting",
    "load_app": "runs.own_app",
    "load_fleet": "planning.fleet.fleet_file",
    "pair_agents": "planning.pairing",
    "parse_fleet": "planning.fleet.fleet_file",
    "peer_client_app": "flower.clientapp.peer_client_app",
    "peer_server_app": "flower.serverapp.peer_server_app",
    "plan": "runs.planned",
    "run_locally": "runs.local_run",
}

__all__ = [
    "Catalogue",
    "Classification",
    "ComdmlError",
    "Dataset",
    "Fleet",
    "InputError",
    "LanguageModel",
    "MultiLabel",
    "OwnTask",
    "Pair",
    "PeerStrategy",
    "Place",
    "Plan",
    "Profile",
    "Regression",
    "RunError",
    "Segmentation",
    "__version__",
    "cut_at",
    "load_app",
    "load_fleet",
    "pair_agents",
    "parse_fleet",
    "peer_client_app",
    "peer_server_app",
    "plan",
    "run_locally",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
