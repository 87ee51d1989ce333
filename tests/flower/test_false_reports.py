"""What one node reports that cannot be costs its own numbers, or its share of the round, and no more."""

import json

from comdml_flwr.flower.clientapp import peer_client_app
from tests.flower.loop_grid import grid_config, run_on_grid
from tests.small import fleet_text, small_config

LIAR, NUM_AGENTS = 1, 4
LIES = (
    lambda report: {**report, "num_evaluated": 10**9, "correct": 10**9},
    lambda report: {**report, "end_s": float("nan")},
    lambda report: {"what": "no report"},
)
NUM_ROUNDS = len(LIES) + 1


def rounds_in(folder):
    run_on_grid(grid_config(small_config(num_rounds=NUM_ROUNDS), folder), fleet_text(NUM_AGENTS), NUM_AGENTS)
    (of_run,) = folder.iterdir()
    return [json.loads(line) for line in (of_run / "rounds.jsonl").read_text().splitlines()]


def test_on_the_grid_a_report_that_cannot_be_is_left_out_of_the_rounds_numbers(tmp_path, monkeypatch):
    honest, real = rounds_in(tmp_path / "honest"), peer_client_app.run_steps

    def run_steps(agent, program, steps, *rest):
        outbox, report = real(agent, program, steps, *rest)
        ended = [step.round for step in steps if step.phase == program.last and step.round < NUM_ROUNDS]
        return outbox, LIES[ended[0] - 1](report) if ended and agent.id == LIAR else report

    monkeypatch.setattr(peer_client_app, "run_steps", run_steps)
    told = rounds_in(tmp_path / "false")
    assert [line["distrusted"] for line in told] == [*[[LIAR]] * len(LIES), []]
    assert [line["num_agents"] for line in told] == [*[NUM_AGENTS - 1] * len(LIES), NUM_AGENTS]
    assert all(line["gone"] == [] and line["accuracy"] is not None for line in told)
    assert told[-1]["accuracy"] == honest[-1]["accuracy"], "its shares were good, and averaged"
