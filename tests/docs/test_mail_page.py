"""The page of the mail is what agents send: every kind, its facts and its arrays."""

import re

import pytest

from comdml_flwr.carriers.direct.kinds import OF_ROUNDS
from comdml_flwr.carriers.direct.meeting import OF_MEETINGS
from comdml_flwr.carriers.local import LocalCarrier
from comdml_flwr.carriers.simulated.network import Network
from comdml_flwr.core.messages import Mailboxes
from comdml_flwr.core.program import Step
from comdml_flwr.runs.assemble import participants_of, program_of
from tests.carriers import draws
from tests.carriers.simulation import simulate, tiny_setup
from tests.docs.commands import ROOT

PAGE = ROOT / "docs" / "reference" / "mail.md"
BEFORE_THE_FIRST_ROUND = {"here", "told", "free", "bits", "found", "done"}  # the meeting of real peers
LONG = {"local_epochs": 30}  # so that offload pays
RARE = {"want model", "current model", "shards"}  # few histories have them
METHODS = (
    {"method": "comdml", "hysteresis": 0.1, **LONG},
    {"method": "comdml", "averaging": "mixing", **LONG},
    {"method": "comdml", "learning_rate": 1e30},  # not finite: withdrawn
    {"method": "allreduce", "participation": 0.6},
    {"method": "fedavg"},
    {"method": "splitfed", "cut": 1},
    {"method": "comdml", "precision": "bfloat16", **LONG},
    {"method": "splitfed", "cut": 1, "precision": "float16"},
    {"method": "gossip"},
    {"method": "braintorrent"},
)
IDS = range(5)
HISTORIES = [draws.draw(draws.one_crash_and_back, seed, IDS) for seed in (*range(8), 13)]
"""In some of them an agent is admitted again; in the last one an absent agent asks if it was counted in."""


def rows():
    """Return the facts and the arrays of each kind, as the page has them."""
    found = {}
    for line in PAGE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" |")]
        if re.fullmatch(r"`[a-z ]+`", cells[0]) and len(cells) >= 4:
            facts, arrays = (set(re.findall(r"`([\w ]+)`", cell)) for cell in cells[-2:])
            found[cells[0].strip("`")] = facts, arrays
    return found


DECLARED = []
"""Of each run of a method: the kinds of mail that its program says it sends, and those that it sent."""


@pytest.fixture(scope="module")
def sent():
    """All facts and arrays that envelopes of a kind held, in runs of all methods, some with faults."""
    facts, arrays, kinds = {}, {}, set()

    def note(envelope):
        kinds.add(envelope.kind)
        facts.setdefault(envelope.kind, set()).update(envelope.about)
        arrays.setdefault(envelope.kind, set()).update(envelope.arrays)

    send, put = Network.send, Mailboxes.put
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "send", lambda network, envelope: (note(envelope), send(network, envelope)))
        patch.setattr(Mailboxes, "put", lambda boxes, mail: put(boxes, [note(one) or one for one in mail]))
        for keys in METHODS:
            kinds.clear()
            run_two_rounds(setup := tiny_setup(**keys))
            DECLARED.append((program_of(setup).kinds, {*kinds}))
        for history in HISTORIES:
            simulate(tiny_setup("allreduce", participation=0.6, num_rounds=4), history)
        simulate(tiny_setup("allreduce", target_metric=0.01), HISTORIES[1])  # the run ends early
    return {kind: (facts[kind], arrays[kind]) for kind in facts}


def run_two_rounds(setup):
    program, participants = program_of(setup), participants_of(setup)
    carrier = LocalCarrier(participants, program)
    for round_ in (1, 2):
        present = [agent.id for agent in participants if agent.is_server or agent.id in setup.present(round_)]
        for phase in range(len(program.phases)):
            carrier.exchange(dict.fromkeys(present, (Step(round_, phase),)))


def test_the_page_has_the_facts_and_arrays_of_all_mail(sent):
    page, of_the_protocol = rows(), rows()["phase done"][0]
    for kind, (facts, arrays) in sent.items():
        assert kind in page
        told, named = page[kind]
        assert facts - of_the_protocol <= told, kind
        assert arrays <= named, kind


def test_the_page_has_nothing_else(sent):
    assert OF_MEETINGS == BEFORE_THE_FIRST_ROUND
    page = rows()
    assert page.keys() - sent.keys() - RARE == BEFORE_THE_FIRST_ROUND
    for kind, (facts, arrays) in sent.items():
        told, named = page[kind]
        assert told - facts == set(), kind
        assert named - arrays == set(), kind


def test_a_program_declares_all_mail_that_its_phases_send(sent):
    """Other mail is refused at the door of an agent that takes part."""
    assert DECLARED
    for declared, found in DECLARED:
        assert found <= declared


def test_nothing_is_declared_that_nobody_sends(sent):
    of_programs = {kind for declared, _ in DECLARED for kind in declared}
    assert sent.keys() | RARE == of_programs | OF_ROUNDS
