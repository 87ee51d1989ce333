"""Mail that no message of Flower's holds is refused in one line, a model before training."""

import pytest

from comdml_flwr.flower import mail
from tests.flower.wiretap import Wiretap, patterned_config, refused

HINT = "a larger num-chunks parts activations, and carrier = direct has no such bound"


@pytest.mark.parametrize("keys", [{}, {"method": "splitfed", "cut": 2}], ids=["comdml", "splitfed"])
def test_a_model_that_cannot_travel_is_refused_before_training(keys, tmp_path, apart, monkeypatch):
    monkeypatch.setattr(mail, "MESSAGE_BYTES", 5_000)
    config = patterned_config(tmp_path, **keys)
    line = refused(Wiretap(config), config)
    assert line == f"the model takes 5.4 kB, more than the 5.0 kB that a message of Flower's holds: {HINT}"
    assert not list(tmp_path.glob("*/rounds.jsonl"))


def test_more_mail_than_a_message_holds_is_one_line(tmp_path, apart, monkeypatch):
    """All that an agent is sent in one phase goes with one message."""
    config = patterned_config(tmp_path, method="braintorrent")
    grid = Wiretap(config)
    grid.change = lambda message: monkeypatch.setattr(mail, "MESSAGE_BYTES", 10_000)
    line = refused(grid, config)
    assert "the mail that one agent sends takes" in line or "the mail for agent" in line
    assert line.endswith(HINT)
