"""Flower's mods around the ClientApp: they see every message, and one that fails is one line."""

import time
from collections import Counter

import pytest
from flwr.app import ConfigRecord, Message
from flwr.clientapp.mod import LocalDpMod, message_size_mod

from comdml_flwr.core.errors import RunError
from comdml_flwr.flower.clientapp.peer_client_app import peer_client_app
from comdml_flwr.flower.records import content_of, facts_of
from comdml_flwr.flower.serverapp.serverless_run import run_serverless
from tests.flower.loop_grid import LoopGrid, grid_config, quiet_terminal, run_on_grid
from tests.small import CATALOGUE, fleet_text, small_config

NUM = 2
CONFIG = small_config(num_rounds=1, method="allreduce")


def run_with(mods, folder):
    config = grid_config(CONFIG, folder)
    app = peer_client_app(models=CATALOGUE.models, datasets=CATALOGUE.datasets, mods=mods)
    grid = LoopGrid(app, NUM, config.with_defaults_named())
    return run_serverless(grid, config, fleet_text(NUM), quiet_terminal(1))


def test_mods_see_every_message_and_change_no_bit(tmp_path):
    kinds, seconds, order = Counter(), [], []

    def count(message, context, call_next):
        order.append("first")
        kinds[message.metadata.message_type] += 1
        return call_next(message, context)

    def stopwatch(message, context, call_next):
        order.append("second")
        began = time.monotonic()
        reply = call_next(message, context)
        seconds.append(time.monotonic() - began)
        return reply

    record = run_with([count, stopwatch, message_size_mod], tmp_path / "with")
    assert {"query.count": 1, "query.hello": NUM, "train.model": 1}.items() <= kinds.items()
    assert kinds["train.steps"] >= 2 * NUM
    assert len(seconds) == sum(kinds.values())
    assert order[:4] == ["first", "second"] * 2
    plain, _ = run_on_grid(grid_config(CONFIG, tmp_path / "plain"), fleet_text(NUM), NUM)
    assert record.weights_sha256 == plain.weights_sha256


def raises(message, context, call_next):
    if message.metadata.message_type == "train.steps":
        raise ValueError("no\nluck")
    return call_next(message, context)


def forgets_to_return(message, context, call_next):
    call_next(message, context)


@pytest.mark.parametrize(
    ("mod", "line"),
    [
        (raises, r"a mod of the ClientApp failed: .*test_mods.py, line \d+, in raises: ValueError: no luck"),
        (forgets_to_return, "a mod of the ClientApp returned NoneType, which is no Message"),
        (
            LocalDpMod(1.0, 1.0, 1.0, 0.1),
            "a mod of the ClientApp refuses messages: LocalDpMod expects exactly one ArrayRecord",
        ),
    ],
)
def test_a_mod_that_fails_is_one_line(tmp_path, mod, line):
    with pytest.raises(RunError, match=line) as caught:
        run_with([mod, message_size_mod], tmp_path / "results")
    assert "\n" not in str(caught.value)


def test_facts_arrive_as_they_were_told_and_can_be_counted():
    facts = ConfigRecord({"a": "", "b": [], "c": b"", "d": 0, "e": False, "f": ["", "x"], "g": "y"})
    content = content_of(facts)
    assert content.config_records["facts"].count_bytes() > 0
    message = Message(content, dst_node_id=1, message_type="query.hello")
    assert dict(facts_of(message)) == dict(facts)
