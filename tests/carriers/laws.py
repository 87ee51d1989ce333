"""What holds of every history of a simulated run, whatever goes wrong in it.

`broken_laws` returns a line for each law that a run breaks. Which agents a law speaks of depends on the
faults: a *suspect* is one that the others cannot tell from a dead one, and may give up, or that lies; all
others are *healthy*. Where one lies, a healthy agent may lose the one round in which that is found.
"""

import itertools

from comdml_flwr.carriers.direct.deadlines import FACTOR, SHORTEST_S
from comdml_flwr.carriers.simulated.history import Crash, Cut, Partition, Stall
from tests.carriers.lies import SILENT_TO_ONE, Liar

SHORT_S = SHORTEST_S / FACTOR  # who is away for less is given up by nobody


def suspects(setup, history):
    """Return the agents that the others may give up."""
    found = liars(history)
    for fault in history.faults:
        if isinstance(fault, Crash):
            found.add(fault.agent)
        elif isinstance(fault, Stall) and fault.seconds >= SHORT_S:
            found |= {fault.agent, *_absent_in_some_round(setup)}
        elif isinstance(fault, Cut) and fault.end_s - fault.start_s >= SHORT_S:
            found |= {fault.sender, fault.receiver, *_absent_in_some_round(setup)}
        elif isinstance(fault, Partition) and fault.end_s - fault.start_s >= SHORT_S:
            found |= {*setup.ids}
    return {*setup.ids} if _may_be_too_few(setup, history) else found


def liars(history):
    """Return who lies."""
    return {fault.agent for fault in history.faults if isinstance(fault, Liar)}


def _num_lost(setup, history):
    """Return how many rounds a healthy agent may lose: that in which a lie is found, or every other one."""
    lies = {fault.lie for fault in history.faults if isinstance(fault, Liar)}
    return (setup.config.num_rounds + 1) // 2 if lies & SILENT_TO_ONE else len(lies)


def _may_be_too_few(setup, history):
    """Tell whether so many of a round may fail in it that nobody can say who is right.

    Half of them that die are for the others no different from a network in parts. One that lies, and others
    that fail, must be fewer than half.
    """
    rounds = [{*setup.present(number)} for number in range(1, setup.config.num_rounds + 1)]
    if liars(history):
        return any(2 * _num_faulty(history, drawn) >= len(drawn) for drawn in rounds)
    dead = {fault.agent for fault in history.faults if isinstance(fault, Crash)}
    return not setup.config.min_agents and any(
        2 * len(dead & drawn) >= len(drawn) > 2 for drawn in rounds if len(dead & drawn) > 1
    )


def _num_faulty(history, drawn):
    """Return how many of those who are drawn for a round may be given up in it; of a cut's two ends one."""
    alone = {fault.agent for fault in history.faults if isinstance(fault, Crash | Stall | Liar)}
    cuts = [fault for fault in history.faults if isinstance(fault, Cut)]
    return len(alone & drawn) + sum(len({cut.sender, cut.receiver} & drawn) > 0 for cut in cuts)


def _absent_in_some_round(setup):
    """They wait for one that hangs as long as it is there, and hear in another order who accuses whom."""
    rounds = range(1, setup.config.num_rounds + 1)
    return {agent for agent in setup.ids if any(agent not in setup.present(number) for number in rounds)}


def broken_laws(setup, history, parts):
    """Return what a run has broken, a line each.

    Parameters
    ----------
    setup : Setup
        Of the run.
    history : History
        What went wrong in it.
    parts : Mapping[int, Part]
        How it went, by agent.
    """
    lying = liars(history)
    healthy, num_lost = {*setup.ids} - suspects(setup, history), _num_lost(setup, history)
    honest = {agent: part for agent, part in parts.items() if agent not in lying}
    return [
        *_nothing_fails(honest, healthy),
        *_who_end_a_round_have_one_model(
            honest,
            may_part=setup.config.min_agents > 0,
            may_take_any=bool(lying) and not healthy,
        ),
        *_all_rounds_are_committed(honest, healthy if lying else parts, num_lost),
        *(_nobody_healthy_is_given_up(honest, healthy) if not lying else ()),
        *_nobody_healthy_misses_a_round(setup, honest, healthy, num_lost),
    ]


def _nothing_fails(parts, healthy):
    for agent, part in parts.items():
        if part.error and agent in healthy:
            yield f"agent {agent} failed: {part.error!r}"


def _who_end_a_round_have_one_model(parts, *, may_part, may_take_any):
    """Of the parts of a network at most one goes on.

    One may end a round just when the others begin it again without it; it cannot go on from there, and takes
    their model. Who was absent and has only a liar to ask takes what that one gives.
    """
    for (one, part), (other, others) in itertools.combinations(parts.items(), 2):
        for round_ in part.reports.keys() & others.reports.keys():
            told, heard = part.reports[round_], others.reports[round_]
            apart = other in told["gone"] or one in heard["gone"]
            if not apart and told["weights_sha256"] != heard["weights_sha256"]:
                yield f"agents {one} and {other} ended round {round_} with different models"
            if not (may_part and apart) and not may_take_any and told["began_with"] != heard["began_with"]:
                yield f"agents {one} and {other} began round {round_} with different models"


def _all_rounds_are_committed(parts, healthy, num_lost):
    for agent, part in parts.items():
        lost = [round_ for round_, report in part.reports.items() if report.get("not_committed")]
        if agent in healthy and len(lost) > num_lost:
            yield f"agent {agent} did not commit the rounds {lost}"


def _nobody_healthy_is_given_up(parts, healthy):
    for agent in sorted(healthy):
        if given_up := sorted({*parts[agent].gone} & healthy):
            yield f"agent {agent} gave up {given_up}"


def _nobody_healthy_misses_a_round(setup, parts, healthy, num_lost):
    for agent in sorted(healthy):
        rounds = [n for n in range(1, setup.config.num_rounds + 1) if agent in setup.present(n)]
        if len({*rounds} - parts[agent].reports.keys()) > num_lost:
            yield f"agent {agent} ended the rounds {[*parts[agent].reports]} of {rounds}"
