"""Checkpoints on disk: whole or not there, the last two, and nothing else is taken for one."""

import json
import multiprocessing
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.agents.agent import Agent
from comdml_flwr.agents.state_files import Waiting, agent_file, read_agent, write_agent
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.core.errors import InputError, RunError
from comdml_flwr.core.messages import Envelope
from comdml_flwr.planning.hysteresis import Pairing
from comdml_flwr.planning.measured import Measured, SpeedEstimate
from comdml_flwr.runs import checkpoint_folders as checkpoint_files
from comdml_flwr.runs.assemble import participants_of, program_of
from comdml_flwr.runs.checkpoint_folders import go_back, new_checkpoint, rounds_in
from comdml_flwr.runs.checkpoints import ABOUT, FOLDER, Checkpoints, hold, read_checkpoint
from comdml_flwr.runs.records import RunRecord, add_up
from tests.small import small_config, small_fleet, small_setup

ROUND = add_up(
    1,
    {
        0: {
            "correct": 1,
            "num_evaluated": 2,
            "loss_sum": 1.0,
            "end_s": 1.0,
            "training_end_s": 1.0,
            "bytes_sent": 1,
            "evaluation_s": 0.1,
        }
    },
    0.5,
)


@pytest.fixture(scope="module")
def setup():
    return small_setup(small_config(num_rounds=6), small_fleet(3))


def used_agent(setup):
    """Return an agent in the middle of its life."""
    agent = Agent(1, setup)
    agent.begin_round(4)
    agent.tensors["weights"] = torch.arange(5.0)
    agent.tensors["aux-head/2"] = torch.ones(3)
    agent.tensors["own/body"] = torch.zeros(1000)
    agent.tensors["partner/body"] = torch.zeros(1000)
    agent.notes["end_s"] = 3.5
    agent.measured = Measured(speed=SpeedEstimate(batch_s=0.5))
    agent.pairing = Pairing(round=3, pairs=((2, 0, 1),))
    return agent


def letter(number):
    """Return an envelope whose arrays do not begin where their items like to."""
    arrays = {"weights": np.arange(3 + number, dtype=np.float32), "odd": np.ones(3, np.uint8)}
    return Envelope(sender=number, receiver=1, round=4, kind="model", arrays=arrays, arrives_s=0.1 * number)


def fill(root, rounds):
    for round_ in rounds:
        with new_checkpoint(root, round_) as folder:
            (folder / "file").write_text(str(round_))


def test_an_agent_comes_back_with_all_but_what_the_next_round_forgets(setup, tmp_path):
    agent, back = used_agent(setup), Agent(1, setup)
    sha256 = write_agent(tmp_path, agent, Waiting())
    read_agent(tmp_path, back, sha256)
    for one in (agent, back):
        one.begin_round(5)
    arrays, facts = agent.state_dict()
    arrays_back, facts_back = back.state_dict()
    assert facts_back == facts
    assert arrays_back.keys() == arrays.keys() == {"weights", "aux-head/2"}
    assert all(np.array_equal(arrays[name], arrays_back[name]) for name in arrays)
    assert (tmp_path / agent_file(1)).stat().st_size < 2000


def test_waiting_mail_comes_back_as_it_was(setup, tmp_path):
    waiting = Waiting(for_first=(letter(0), letter(2)), for_second=(letter(5),))
    sha256 = write_agent(tmp_path, used_agent(setup), waiting)
    back = read_agent(tmp_path, Agent(1, setup), sha256)
    for sent, come in ((waiting.for_first, back.for_first), (waiting.for_second, back.for_second)):
        assert [(m.sender, m.kind, m.arrives_s) for m in come] == [
            (m.sender, m.kind, m.arrives_s) for m in sent
        ]
        for one, other in zip(sent, come, strict=True):
            assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in one.arrays)


@pytest.fixture(scope="module")
def blob(setup, tmp_path_factory):
    folder = tmp_path_factory.mktemp("agent")
    sha256 = write_agent(folder, used_agent(setup), Waiting(for_second=(letter(1),)))
    return (folder / agent_file(1)).read_bytes(), sha256, folder


@settings(max_examples=100)
@given(st.data())
def test_a_changed_byte_or_a_missing_end_is_one_line(blob, setup, data):
    whole, sha256, folder = blob
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        damaged = whole[:place] + bytes([whole[place] ^ data.draw(st.integers(1, 255))]) + whole[place + 1 :]
    (folder / agent_file(1)).write_bytes(damaged)
    agent = Agent(1, setup)
    with pytest.raises(InputError) as caught:
        read_agent(folder, agent, sha256)
    assert (
        str(caught.value)
        == f"checkpoint = '{folder}': is damaged: agent-1.safetensors is not as it was written"
    )
    assert agent.round == 0, "and the agent is as it was"


def test_the_last_two_are_kept(tmp_path):
    fill(tmp_path, [2, 4, 6, 10])
    assert rounds_in(tmp_path) == [6, 10]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["10", "6"]


@pytest.mark.parametrize("call", ["_sync", "rename", "rmtree"])
@pytest.mark.parametrize("number", [1, 2])
def test_wherever_the_process_ends_a_whole_one_is_there(call, number, tmp_path, monkeypatch):
    fill(tmp_path, [2, 4])
    where = {"_sync": checkpoint_files, "rename": checkpoint_files.Path, "rmtree": checkpoint_files.shutil}[
        call
    ]
    real, count = getattr(where, call), [0]

    def dies(*args, **keys):
        count[0] += 1
        if count[0] == number:
            raise KeyboardInterrupt
        return real(*args, **keys)

    with monkeypatch.context() as patch:
        patch.setattr(where, call, dies)
        if (call, number) == ("rmtree", 2):  # there is one call only
            fill(tmp_path, [6])
        else:
            with pytest.raises(KeyboardInterrupt):
                fill(tmp_path, [6])
    left = rounds_in(tmp_path)
    assert {2, 4} <= {*left} or {4, 6} <= {*left}
    for round_ in left:
        assert (tmp_path / str(round_) / "file").read_text() == str(round_)
    fill(tmp_path, [6, 8])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["6", "8"], "nothing stays for ever"


def test_a_run_that_goes_back_forgets_what_came_later(tmp_path):
    fill(tmp_path, [8, 12])
    (tmp_path / "14.partial").mkdir()
    go_back(tmp_path, 8)
    assert [path.name for path in tmp_path.iterdir()] == ["8"]
    fill(tmp_path, [10])
    assert rounds_in(tmp_path) == [8, 10]


def keeper(run, **keys):
    made = Checkpoints(
        config=small_config(**keys),
        fleet_text="[links]",
        ids=(0, 11),
        keep=lambda folder, record: {0: f"{len(record.rounds)}", 11: "ab", -1: "cd"},
    )
    made.write_into(run)
    return made


def test_what_checkpoint_json_says_comes_back(tmp_path):
    made = keeper(tmp_path, num_rounds=9, checkpoint_every=1)
    made.save(RunRecord(rounds=(ROUND,), digests={3: "feed", 0: "beef"}))
    found = read_checkpoint(tmp_path, 1)
    assert (found.round, found.num_rounds, found.fleet, found.at_nodes) == (1, 9, "[links]", False)
    assert found.files == {0: "1", 11: "ab", -1: "cd"}
    assert found.digests == {3: "feed", 0: "beef"}
    assert found.ids == (0, 11)
    assert found.token == made.token


@pytest.mark.parametrize(
    ("every", "at_nodes", "due"),
    [
        (0, False, []),
        (3, False, [3, 6, 7]),
        (3, True, [3, 6]),
        (9, False, [7]),
        (7, True, []),
        (1, True, [*range(1, 7)]),
    ],
)
def test_a_checkpoint_is_due_every_so_many_rounds_and_at_the_end_where_it_stays(
    every, at_nodes, due, tmp_path
):
    made = keeper(tmp_path, num_rounds=7, checkpoint_every=every)
    made.at_nodes = at_nodes
    assert [number for number in range(1, 8) if made.is_due(RunRecord(rounds=(ROUND,) * number))] == due


def changed(**keys):
    def change(text):
        return json.dumps({**json.loads(text), **keys})

    return change


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda text: text[:-20], r"is damaged: checkpoint\.json: .*"),
        (lambda text: "", r"is damaged: checkpoint\.json: .*"),
        (lambda text: "[]", r"is damaged: checkpoint\.json: .*"),
        (lambda text: "{}", r"is damaged: checkpoint\.json: 'format'"),
        (changed(round=2), r"is damaged: checkpoint\.json: is not as it was written"),
        (changed(format=2), r"has format 2; this version reads 1"),
        (lambda text: None, r"is damaged: checkpoint\.json: No such file or directory"),
    ],
    ids=["truncated", "empty", "a list", "no keys", "changed", "another format", "gone"],
)
def test_a_checkpoint_json_that_is_none_is_one_line(change, line, tmp_path):
    keeper(tmp_path).save(RunRecord(rounds=(ROUND,)))
    path = tmp_path / FOLDER / "1" / ABOUT
    text = change(path.read_text())
    path.unlink() if text is None else path.write_text(text)
    with pytest.raises(InputError, match=rf"^checkpoint = '.*/checkpoints/1': {line}$") as caught:
        read_checkpoint(tmp_path, 1)
    assert "\n" not in str(caught.value)


def test_a_disk_that_is_full_leaves_the_checkpoint_before(tmp_path):
    made = keeper(tmp_path)
    made.save(RunRecord(rounds=(ROUND,)))

    def full(folder, round_):
        (folder / "half").write_text("a")
        raise OSError("no space left")

    made.keep = full
    line = "checkpoint of round 2: no space left; the ones before are there"
    with pytest.raises(RunError, match=f"^{line}$"):
        made.save(RunRecord(rounds=(ROUND, ROUND)))
    assert rounds_in(tmp_path / FOLDER) == [1]
    assert read_checkpoint(tmp_path, 1).round == 1


def _try_to_hold(folder, told):
    try:
        with hold(folder):
            told.put("held")
    except InputError as error:
        told.put(str(error))


def test_one_process_at_a_time_works_on_a_run(tmp_path):
    context = multiprocessing.get_context("fork")
    told = context.Queue()
    with hold(tmp_path):
        other = context.Process(target=_try_to_hold, args=(tmp_path, told))
        other.start()
        assert told.get(timeout=20) == f"resume = '{tmp_path}': is a run that still goes on"
        other.join()
    other = context.Process(target=_try_to_hold, args=(tmp_path, told))
    other.start()
    assert told.get(timeout=20) == "held"
    other.join()
    shutil.rmtree(tmp_path / FOLDER)


def test_of_who_is_gone_there_is_no_file(setup, tmp_path):
    """It is gone when the run goes on, and comes in with the model as one that failed does."""
    carrier = LocalCarrier(participants_of(setup), program_of(setup))
    made = Checkpoints(
        config=setup.config,
        fleet_text="[links]",
        ids=setup.ids,
        keep=lambda folder, record: carrier.keep(folder, record.gone),
    )
    made.write_into(tmp_path)
    made.save(RunRecord(rounds=(ROUND,), gone=(1,)))
    found = read_checkpoint(tmp_path, 1)
    assert (found.ids, found.gone, sorted(found.files)) == ((0, 1, 2), (1,), [0, 2])
    carrier.restore(tmp_path / FOLDER / "1", found.files)
