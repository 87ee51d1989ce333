"""All nodes must begin with the same: one data set, of which each trains on its part, and one model.

Each node that is greeted tells a sketch (learning/models/sketch.py) of what it has loaded and built, and the
ServerApp compares them before anything is trained. It sees no sample and no weight.
"""

from collections.abc import Mapping

import numpy as np
import torch
from flwr.app import ConfigRecord
from torch import Tensor

from comdml_flwr.agents.last_result import LastResult, are_same_objects
from comdml_flwr.agents.setup import Setup
from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.records import floats, texts
from comdml_flwr.learning.models.sketch import Sketch, sketch

WEIGHTS = "initial weights"
FROZEN = "weights that are not trained"
SAME_DATA = "every node must load the same data set, of which it trains on its part"
SAME_MODEL = "a model builder must build the same everywhere, and draw from the generator that it is given"

_SKETCHES: LastResult[dict[str, Sketch]] = LastResult(are_same_objects)
"""The last ones: nodes that share a process sketch their data once."""


def start_of(setup: Setup) -> dict[str, Sketch]:
    """Return sketches of a run's data set and initial weights, by name."""
    data, weights_P = setup.same_data, setup.initial_weights_P
    return _SKETCHES.get((data, weights_P), lambda: _start(setup))


def _start(setup: Setup) -> dict[str, Sketch]:
    values = {**setup.same_data, WEIGHTS: setup.initial_weights_P}
    frozen = [x.reshape(-1) for x in setup.layout.others.values() if x.dtype == np.float32]
    if frozen:  # they do not travel, so they must be equal from the start
        values[FROZEN] = torch.from_numpy(np.concatenate(frozen))
    return {
        name: sketch(value) if isinstance(value, Tensor) else Sketch(repr(value))
        for name, value in values.items()
    }


def pack_start(start: Mapping[str, Sketch]) -> dict[str, list[str] | list[float]]:
    """Return the facts in which a node tells its sketches."""
    sketches = start.values()
    return {
        "start-names": list(start),
        "start-forms": [one.form for one in sketches],
        "start-lengths": [one.length for one in sketches],
        "start-projections": [one.projection for one in sketches],
    }


def unpack_start(facts: ConfigRecord) -> dict[str, Sketch]:
    """Return the sketches that a node tells."""
    names, forms = texts(facts, "start-names"), texts(facts, "start-forms")
    told = zip(forms, floats(facts, "start-lengths"), floats(facts, "start-projections"), strict=True)
    return dict(zip(names, (Sketch(*one) for one in told), strict=True))


def check_same_start(starts: Mapping[str, Mapping[str, Sketch]]) -> None:
    """Refuse a run whose members do not begin with the same.

    Parameters
    ----------
    starts : Mapping[str, Mapping[str, Sketch]]
        By member, as people know it: "agent 0".

    Raises
    ------
    RunError
        In one line: two members, what differs, and the rule.
    """
    (first, start), *others = starts.items()
    for other, its in others:
        for name in [*start, *(its.keys() - start.keys())]:
            mine, its_own = start.get(name, Sketch("nothing")), its.get(name, Sketch("nothing"))
            if mine.is_like(its_own):
                continue
            rule = SAME_MODEL if name in (WEIGHTS, FROZEN) else SAME_DATA
            forms = f"is {mine.form}, or {its_own.form}"
            differs = "has other values" if mine.form == its_own.form else forms
            what = name if name in (WEIGHTS, FROZEN) else f"data ({name})"
            raise RunError(f"{first} and {other} do not begin with the same {what}: it {differs}; {rule}")
