"""Why agents wait in the first round: each reason on a round of a few agents, made by hand."""

import pytest

from comdml_flwr.comparison.contents import AgentOfRun, Pair, Round, Run, Span, _PlanOfRound
from comdml_flwr.comparison.idle import why_idle


def run_of(trains, pairs=(), links=None):
    """Return a run of one round of 12 s: by agent until when it trains its own, and then whom until when."""
    agents = []
    for agent, (own_s, *help_) in sorted(trains.items()):
        spans = [Span(what="compute", start_s=0, end_s=own_s)] if own_s else []
        spans += [Span(what="compute", start_s=own_s, end_s=end_s, peer=peer) for peer, end_s in help_]
        agents.append(AgentOfRun(agent=agent, timeline=spans))
    plan = _PlanOfRound(pairs=[Pair(slow=slow, fast=fast, cut=1) for slow, fast in pairs])
    line = Round(round=1, score=0.5, virtual_time_s=12.0, bytes_sent=0, plan=plan)
    return Run(seed=1, rounds=(line,), agents=tuple(agents), links=links)


def test_a_round_without_pairs_says_whom_all_wait_for_and_how_long():
    assert why_idle(run_of({0: (1,), 1: (10,), 2: (3,)})) == (
        "Agent 1 trains longest, until 10.0 s; the round ends at 12.0 s. The others wait 8.00 s on average,"
        " at most 9.00 s: nobody takes over work of another agent."
    )


def test_a_server_that_trains_upper_layers_is_waited_for_too():
    said = why_idle(run_of({-1: (0, (0, 2), (1, 4)), 0: (1,), 1: (10,)}))
    assert said.endswith("at most 9.00 s: for it, and for the server, which trains the upper layers of all.")


def test_helpers_and_the_helped_wait_for_different_things():
    said = why_idle(run_of({0: (1, (3, 8)), 1: (10,), 2: (3, (4, 9)), 3: (4,), 4: (5,)}, [(3, 0), (4, 2)]))
    assert said == (
        "Agent 1 trains longest (alone: all faster agents are in pairs), until 10.0 s; the round ends at"
        " 12.0 s."
        " Agents 0, 2 wait 1.00 s to 2.00 s for activations, and after helping: a helper has one partner."
        " Agents 3, 4 wait 5.00 s to 6.00 s while the helper trains the upper layers."
    )


PAIRED = {0: (1, (3, 8)), 3: (4,)}


@pytest.mark.parametrize(
    ("others", "links", "reason"),
    [
        ({5: (2,)}, None, "Agent 5 waits 6.00 s without a partner: all slower agents are in pairs."),
        (
            {5: (2,), 6: (9,)},
            {5: {0, 3}, 6: {0, 3}},
            "Agent 5 waits 7.00 s without a partner: no link leads to a slower agent without one.",
        ),
        (
            {5: (2,), 6: (9,)},
            {5: {6}, 6: {5}},
            "Agent 5 waits 7.00 s without a partner: the solver found no pair with agent 6 that would"
            " end sooner.",
        ),
        (
            {5: (2,), 6: (9,), 7: (8.9,)},
            None,
            "Agent 5 waits 7.00 s without a partner: the free agents to help are done by the time agent"
            " 6 is.",
        ),
    ],
    ids=["no slower agent", "no link", "no better pair", "no need"],
)
def test_each_reason_to_have_no_partner(others, links, reason):
    assert reason in why_idle(run_of({**PAIRED, **others}, [(3, 0)], links))


@pytest.mark.parametrize(
    ("trains", "links", "reason"),
    [
        (
            {**PAIRED, 0: (1, (3, 11))},
            None,
            "Agent 0 trains longest (its own layers and agent 3's), until 11.0 s",
        ),
        ({**PAIRED, 3: (11,)}, None, "Agent 3 trains longest (with agent 0's help), until 11.0 s"),
        (
            {**PAIRED, 5: (2,), 6: (9,)},
            {6: set()},
            "Agent 6 trains longest (alone: no link leads to a faster agent without a partner)",
        ),
        (
            {**PAIRED, 5: (2,), 6: (9,)},
            {6: {5}},
            "Agent 6 trains longest (alone: the solver found no pair with a free agent that would end"
            " sooner)",
        ),
    ],
    ids=["helper", "helped", "no link", "no better pair"],
)
def test_why_somebody_trains_longest(trains, links, reason):
    assert why_idle(run_of(trains, [(3, 0)], links)).startswith(reason)


def test_of_many_agents_some_are_named_and_short_waits_are_not_worth_a_word():
    many = dict.fromkeys(range(10, 40), (2,))
    said = why_idle(run_of({**PAIRED, **many}, [(3, 0)]))
    assert "Agents 10, 11, 12, 13, 14, 15, 16, 17 and 22 more wait 6.00 s without a partner" in said
    assert why_idle(run_of({0: (1, (3, 9.9)), 3: (9.95,)}, [(3, 0)])).endswith("Nobody waits for long.")
    assert why_idle(run_of({4: (7,)})) == "The only agent trains until 7.00 s."
