"""What holds of every history of a simulated run, whatever goes wrong in it.

`broken_laws` returns a line for each law that a run breaks. Which agents a law speaks of depends on the
faults: a *suspect* is one that the others cannot tell from a dead one, and may give up; all others are
*healthy*.
"""

import itertools

from comdml_flwr.carriers.direct.deadlines import FACTOR, SHORTEST_S
from comdml_flwr.carriers.simulated.history import Crash, Cut, Partition, Stall

SHORT_S = SHORTEST_S / FACTOR  # who is away for less is given up by nobody


def suspects(setup, history):
    """Return the agents that the others may give up."""
    found = set()
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


def _may_be_too_few(setup, history):
    """Tell whether half of those in one round may die in it: nobody can tell that from a network in parts."""
    dead = {fault.agent for fault in history.faults if isinstance(fault, Crash)}
    rounds = [{*setup.present(number)} for number in range(1, setup.config.num_rounds + 1)]
    return not setup.config.min_agents and any(
        2 * len(dead & drawn) >= len(drawn) > 2 for drawn in rounds if len(dead & drawn) > 1
    )


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
    healthy = {*setup.ids} - suspects(setup, history)
    return [
        *_nothing_fails(parts, healthy),
        *_who_end_a_round_have_one_model(parts, may_part=setup.config.min_agents > 0),
        *_all_rounds_are_committed(parts),
        *_nobody_healthy_is_given_up(parts, healthy),
        *_nobody_healthy_misses_a_round(setup, parts, healthy),
    ]


def _nothing_fails(parts, healthy):
    for agent, part in parts.items():
        if part.error and agent in healthy:
            yield f"agent {agent} failed: {part.error!r}"


def _who_end_a_round_have_one_model(parts, *, may_part):
    """Of the parts of a network at most one goes on.

    One may end a round just when the others begin it again without it; it cannot go on from there, and takes
    their model.
    """
    for (one, part), (other, others) in itertools.combinations(parts.items(), 2):
        for round_ in part.reports.keys() & others.reports.keys():
            told, heard = part.reports[round_], others.reports[round_]
            apart = other in told["gone"] or one in heard["gone"]
            if not apart and told["weights_sha256"] != heard["weights_sha256"]:
                yield f"agents {one} and {other} ended round {round_} with different models"
            if not (may_part and apart) and told["began_with"] != heard["began_with"]:
                yield f"agents {one} and {other} began round {round_} with different models"


def _all_rounds_are_committed(parts):
    for agent, part in parts.items():
        for round_, report in part.reports.items():
            if report.get("not_committed"):
                yield f"agent {agent} did not commit round {round_}"


def _nobody_healthy_is_given_up(parts, healthy):
    for agent in sorted(healthy):
        if given_up := sorted({*parts[agent].gone} & healthy):
            yield f"agent {agent} gave up {given_up}"


def _nobody_healthy_misses_a_round(setup, parts, healthy):
    for agent in sorted(healthy):
        rounds = [n for n in range(1, setup.config.num_rounds + 1) if agent in setup.present(n)]
        if [*parts[agent].reports] != rounds:
            yield f"agent {agent} ended the rounds {[*parts[agent].reports]} of {rounds}"
