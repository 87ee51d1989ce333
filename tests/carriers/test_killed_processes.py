"""Faults for real: agents are processes over mutual TLS on loopback, and the kernel kills or stops them."""

import signal

import pytest

from comdml_flwr.carriers.transport.certificates import make_certificates
from tests.carriers.agent_process import AFTER, BEFORE, SENDING
from tests.carriers.processes import SHORTEST_S, TOKEN, Crew, Run
from tests.carriers.strangers import Stranger
from tests.carriers.test_direct_faults import phase_of
from tests.carriers.test_faults import CONFIG, FLEET, NUM_AGENTS, places, roles
from tests.faults import FailAt, run_local_with
from tests.small import small_fleet

pytestmark = pytest.mark.slow

KEYS = {"num_chunks": CONFIG.num_chunks, "carrier": "direct"}
MARGIN_S = 3.0  # an operating system with more processes than cores takes it besides
PACE_S = 0.4  # of rounds, where somebody has to be let in while they run


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("federation")
    make_certificates(folder, range(NUM_AGENTS + 2), {}, days=1)
    return folder


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """The certificates of another federation."""
    folder = tmp_path_factory.mktemp("foreign")
    make_certificates(folder, range(NUM_AGENTS + 2), {}, days=1)
    return folder


@pytest.fixture(scope="module")
def crew(tmp_path_factory):
    crew = Crew(tmp_path_factory.mktemp("processes"), NUM_AGENTS + 1)
    yield crew
    crew.close()


@pytest.fixture
def run_of(crew, folder):
    def run_of(num_rounds, *, num_agents=NUM_AGENTS, shortest_s=SHORTEST_S, **keys):
        config = {**KEYS, "num_rounds": num_rounds}
        return Run(crew, folder, config, num_agents, shortest_s=shortest_s, **keys)

    return run_of


def check(run, num_rounds, disturbed=()):
    """See that all rounds were run by all but the disturbed, with equal weights, and that nobody waited long.

    Prints the longest wait of the others, in seconds and in deadlines.
    """
    others = {*range(NUM_AGENTS)} - {*disturbed}
    assert sorted(run.reports) == [*range(1, num_rounds + 1)]
    for reports in run.reports.values():
        assert others <= reports.keys()
        assert len({report["digest"] for report in reports.values()}) == 1
    waits = [wait for agent in others for wait in run.waits[agent]]
    longest_s, deadline_s = max(waits, key=lambda wait: wait[0] / wait[1])
    print(f"longest wait {longest_s:.1f} s with a deadline of {deadline_s:.1f} s")
    assert all(waited_s <= 2 * deadline_s + MARGIN_S for waited_s, deadline_s in waits)


def told(run, round_, name):
    """Return what all agents alike told of a round under a name."""
    value, *others = [report[name] for report in run.reports[round_].values()]
    assert all(other == value for other in others)
    return value


def digest_without(agent, place, *, round_, num_rounds):
    """Return the digest that the others have on the local carrier when an agent dies there."""
    config = CONFIG.model_copy(update={"num_rounds": num_rounds})
    _, agents = run_local_with(config, FLEET, [FailAt(agent, places(CONFIG)[place], round_)])
    return agents[min(agents.keys() - {agent})].weights_sha256()


KILLS = {
    "helper before the offload": ("helper", "before the offload", BEFORE),
    "helper during the offload": ("helper", "during the offload", BEFORE),
    "helper after the offload": ("helper", "after the offload", BEFORE),
    "slow agent during the offload": ("slow", "during the offload", BEFORE),
    "agent in the middle of its scatter": ("other", "after the offload", SENDING),
    "agent in the middle of its gather": ("other", "gather", SENDING),
    "agent that has adopted and not said so": ("other", "adopt", AFTER),
}


@pytest.mark.parametrize("kill", KILLS.values(), ids=KILLS)
def test_the_others_go_on_with_the_weights_of_the_local_carrier(kill, run_of):
    role, place, moment = kill
    pair, num_rounds = roles(CONFIG), 5
    killed = pair[role]
    with run_of(num_rounds, stops={killed: [(2, phase_of(place), moment)]}) as run:
        run.start(1, 3)
        run.at_its_place(killed)
        run.kill(killed)
        run.finish()
        run.start(4, 5)
        run.finish()
    check(run, num_rounds, disturbed=[killed])
    assert [told(run, r, "gone") for r in range(1, 6)] == [[], *[[killed]] * 4]
    if role == "helper":
        assert run.reports[2][pair["slow"]]["taken_back"] == [pair["slow"]]
    before = place if place != "adopt" else "gather"  # its share counts when all have its last mark
    assert told(run, 5, "digest") == digest_without(killed, before, round_=2, num_rounds=5)


@pytest.mark.parametrize("round_", [2, 3], ids=["in a message", "at its end"])
def test_who_is_killed_between_its_last_signs_has_its_share_in_the_round_everywhere(round_, run_of):
    """Two peers can commit the round; the others begin the averaging again, and take what the two have."""
    killed, num_rounds = roles(CONFIG)["other"], 5
    with run_of(num_rounds, stops={killed: [(round_, phase_of("adopt"), SENDING)]}) as run:
        run.start(1, 3)
        run.at_its_place(killed)
        run.kill(killed)
        run.finish()
        run.start(4, 5)
        run.finish()
    check(run, num_rounds, disturbed=[killed])
    assert [told(run, r, "gone") for r in range(1, 6)] == [[]] * round_ + [[killed]] * (5 - round_)
    expected = digest_without(killed, "before the offload", round_=round_ + 1, num_rounds=num_rounds)
    assert told(run, num_rounds, "digest") == expected


@pytest.mark.parametrize(
    ("place", "moment", "gone"),
    [("gather", BEFORE, True), ("adopt", SENDING, False)],
    ids=["in the gathering", "between its last marks"],
)
def test_a_stalled_process_is_left_behind_and_let_in_again(place, moment, gone, run_of):
    """It is stopped for longer than the deadline, and goes on when the others have.

    Between its last marks, two peers commit the round at once and then wait for the others, who wait for the
    one that is stalled: nobody but that one may be given up. It has the highest id, so that they are looked
    at before it.
    """
    stalled, num_rounds = NUM_AGENTS - 1, 12
    with run_of(num_rounds, stops={stalled: [(2, phase_of(place), moment)]}, pace_s=PACE_S) as run:
        run.start(1, 10)
        process = run.at_its_place(stalled)
        process.signal(signal.SIGSTOP)
        process.order("go on")
        run.hear_of_round(2, without=[stalled])
        process.signal(signal.SIGCONT)
        run.finish()
        run.start(11, 12)
        run.finish()
    check(run, num_rounds, disturbed=[stalled])
    assert told(run, 2, "gone") == [stalled] * gone
    assert told(run, 3, "gone") == [stalled]
    assert is_back_from(run, stalled) in range(4, 11)


@pytest.mark.parametrize("role", ["slow", "helper", "other"])
def test_who_trains_beyond_the_forecast_is_left_behind_and_let_in_again(role, run_of):
    pair, num_rounds = roles(CONFIG), 12
    late = pair[role]
    with run_of(
        num_rounds, stops={late: [(2, phase_of("during the offload"), BEFORE)]}, pace_s=PACE_S
    ) as run:
        run.start(1, 10)
        process = run.at_its_place(late)
        run.hear_of_round(2, without=[late])
        process.order("go on")
        run.finish()
        run.start(11, 12)
        run.finish()
    check(run, num_rounds, disturbed=[late])
    assert told(run, 2, "gone") == [late]
    assert is_back_from(run, late) in range(4, 11)
    if role == "helper":
        assert run.reports[2][pair["slow"]]["taken_back"] == [pair["slow"]]


def test_a_process_that_is_started_again_with_nothing_is_let_in(run_of):
    """At the same address, and in the middle of the message."""
    killed, num_rounds = roles(CONFIG)["helper"], 12
    with run_of(num_rounds, stops={killed: [(2, phase_of("gather"), BEFORE)]}, pace_s=PACE_S) as run:
        run.start(1, 10)
        run.at_its_place(killed)
        run.kill(killed)
        run.start_again(killed)
        run.finish()
        run.start(11, 12)
        run.finish()
    check(run, num_rounds, disturbed=[killed])
    assert told(run, 2, "gone") == [killed]
    assert is_back_from(run, killed) in range(3, 11)


def test_one_fault_after_the_other_leaves_the_others_with_equal_weights(run_of):
    """Killed, and started again; killed for good; stalled, and back; and killed in its second life."""
    pair, num_rounds = roles(CONFIG), 24
    twice, once, stalled = pair["helper"], pair["slow"], pair["other"]
    witness = min({*range(NUM_AGENTS)} - {twice, once, stalled})
    stops = {
        twice: [(2, phase_of("during the offload"), BEFORE)],
        once: [(5, phase_of("gather"), SENDING)],
        stalled: [(8, phase_of("after the offload"), SENDING)],
    }
    with run_of(num_rounds, stops=stops, pace_s=PACE_S) as run:
        run.start(1, 22)
        run.at_its_place(twice)
        run.kill(twice)
        run.start_again(twice, stops=[(16, phase_of("adopt"), SENDING)])
        run.at_its_place(once)
        run.kill(once)
        process = run.at_its_place(stalled)
        process.signal(signal.SIGSTOP)
        process.order("go on")
        run.processes[witness].hear_of_round(8)
        process.signal(signal.SIGCONT)
        run.at_its_place(twice)
        run.kill(twice)
        run.finish()
        run.start(23, 24)
        run.finish()
    check(run, num_rounds, disturbed=[twice, once, stalled])
    assert told(run, 22, "gone") == told(run, 24, "gone") == sorted([twice, once])


def is_back_from(run, agent):
    """Return the round from which on an agent takes part again, and see that nobody misses it then."""
    took_part = [round_ for round_, reports in run.reports.items() if agent in reports and round_ > 2]
    assert took_part == [*range(min(took_part), max(run.reports) + 1)]
    assert {tuple(told(run, round_, "gone")) for round_ in took_part} == {()}
    return min(took_part)


def test_weights_that_are_not_finite_cost_an_agent_its_share_and_no_more(run_of):
    """Also the part of it that its helper trained."""
    broken, phase = roles(CONFIG)["slow"], phase_of("after the offload")
    with run_of(4, nan_in={broken: (2, phase)}) as run:
        run.start(1, 2)
        run.finish()
        run.start(3, 4)
        run.finish()
    check(run, 4)
    assert all(not told(run, r, "gone") for r in range(1, 5))
    assert [run.reports[r][broken]["not_finite"] for r in range(1, 5)] == [None, [broken], None, None]
    assert told(run, 2, "digest") == digest_without(broken, "after the offload", round_=2, num_rounds=2)


def test_what_a_stranger_sends_changes_nothing_and_is_counted(run_of, folder, foreign):
    """It speaks to every agent while they train; nobody is late, so that a busy machine may take its time."""
    num_rounds, stranger = 4, NUM_AGENTS
    stops = {0: [(2, phase_of("during the offload"), BEFORE)]}
    with run_of(
        num_rounds, num_agents=NUM_AGENTS + 1, absent=[stranger], stops=stops, shortest_s=60.0
    ) as run:
        run.start(1, 3)
        process = run.at_its_place(0)
        expected = {
            agent: Stranger(stranger, agent, run.addresses[agent], TOKEN, folder, foreign).send_everything()
            for agent in range(NUM_AGENTS)
        }
        process.order("go on")
        run.finish()
        assert run.refused == expected
        run.start(4, 4)
        run.finish()
    check(run, num_rounds)
    absent_all_the_time = FailAt(stranger, 0, round=1)
    config = CONFIG.model_copy(update={"num_rounds": num_rounds})
    _, agents = run_local_with(config, small_fleet(NUM_AGENTS + 1), [absent_all_the_time])
    assert told(run, num_rounds, "digest") == agents[0].weights_sha256()
