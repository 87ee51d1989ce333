"""Who waited in the first round, and why, in words: for whom, and what kept it from being in a pair.

The reasons are those that a run's files show: the plan of the round, when each agent trained by the virtual
clock, and who is linked with whom. A pair needs a slower agent without a helper, and a link to it; a helper
has one partner; and a solver leaves out pairs that would not end the round sooner.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from comdml_flwr.comparison.contents import AgentOfRun, Run, Span
from comdml_flwr.core.units import Unit, unit_of_s

_LITTLE = 0.02  # of the time until training ends: who waits for less is not worth a word
_MOST_NAMED = 8


def end_of(run: Run) -> float:
    """Return when a run's first round ends, in virtual seconds."""
    return run.rounds[0].virtual_time_s


def busy_spans(agent: AgentOfRun) -> list[Span]:
    """Return when an agent trained."""
    return [span for span in agent.timeline if span.what == "compute"]


def why_idle(run: Run) -> str:
    """Say who trains longest in the first round, who waits for it how long, and why.

    Parameters
    ----------
    run : Run
        With timelines.
    """
    training, unit = _Training.of(run), unit_of_s(end_of(run))
    if len(training.end_s) < 2:
        return f"The only agent trains until {unit.show(training.training_end_s)}."
    lead = (
        f"Agent {training.last} trains longest{_why_so_long(training)}, until"
        f" {unit.show(training.training_end_s)}; the round ends at {unit.show(end_of(run))}."
    )
    if not training.helper_of:
        return f"{lead} {_without_pairs(run, training, unit)}"
    waits: dict[str, list[int]] = {}
    for agent, idle_s in training.idle_s.items():
        if agent != training.last and idle_s > _LITTLE * training.training_end_s:
            waits.setdefault(_reason(training, agent), []).append(agent)
    said = [_say(agents, reason, training.idle_s, unit) for reason, agents in waits.items()]
    return " ".join([lead, *said]) if said else f"{lead} Nobody waits for long."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """When the agents of a round train (by id), who helps whom, and who is linked with whom (if known)."""

    end_s: Mapping[int, float]
    busy_s: Mapping[int, float]
    helper_of: Mapping[int, int]
    links: Mapping[int, Collection[int]] | None

    @classmethod
    def of(cls, run: Run) -> "_Training":
        spans = {agent.agent: busy_spans(agent) for agent in run.agents if agent.agent >= 0}
        return cls(
            end_s={agent: max((span.end_s for span in own), default=0.0) for agent, own in spans.items()},
            busy_s={agent: sum(span.end_s - span.start_s for span in own) for agent, own in spans.items()},
            helper_of={pair.slow: pair.fast for pair in run.rounds[0].plan.pairs},
            links=run.links,
        )

    @property
    def last(self) -> int:
        """Who trains longest."""
        return max(self.end_s, key=lambda agent: (self.end_s[agent], -agent))

    @property
    def training_end_s(self) -> float:
        """When all have trained."""
        return self.end_s[self.last]

    @property
    def idle_s(self) -> dict[int, float]:
        """How long each agent does not train until all have trained."""
        return {agent: self.training_end_s - busy_s for agent, busy_s in self.busy_s.items()}

    @property
    def alone(self) -> list[int]:
        """Who is in no pair."""
        paired = {*self.helper_of, *self.helper_of.values()}
        return [agent for agent in self.end_s if agent not in paired]

    def linked(self, agent: int, others: Sequence[int]) -> list[int]:
        """Return those of the others to whom a link leads; all of them where links are not known."""
        return [other for other in others if self.links is None or other in self.links.get(agent, ())]


def _why_so_long(training: _Training) -> str:
    """Say what the agent that trains longest does, and why nobody helps it if nobody does."""
    last, helped = training.last, {fast: slow for slow, fast in training.helper_of.items()}
    if last in helped:
        return f" (its own layers and agent {helped[last]}'s)"
    if last in training.helper_of:
        return f" (with agent {training.helper_of[last]}'s help)"
    if not training.helper_of:
        return ""
    faster = [agent for agent in training.alone if training.end_s[agent] < training.training_end_s]
    if not faster:
        return " (alone: all faster agents are in pairs)"
    if not training.linked(last, faster):
        return " (alone: no link leads to a faster agent without a partner)"
    return " (alone: the solver found no pair with a free agent that would end sooner)"


def _reason(training: _Training, agent: int) -> str:
    if agent in training.helper_of:
        return "while the helper trains the upper layers"
    if agent in training.helper_of.values():
        return "for activations, and after helping: a helper has one partner"
    slower = [other for other in training.alone if training.end_s[other] > training.end_s[agent]]
    if not slower:
        return "without a partner: all slower agents are in pairs"
    if not training.linked(agent, slower):
        return "without a partner: no link leads to a slower agent without one"
    if training.linked(agent, slower) == [training.last]:
        return f"without a partner: the solver found no pair with agent {training.last} that would end sooner"
    return f"without a partner: the free agents to help are done by the time agent {training.last} is"


def _say(agents: Sequence[int], reason: str, idle_s: Mapping[int, float], unit: Unit) -> str:
    shortest, longest = (unit.show(pick(idle_s[agent] for agent in agents)) for pick in (min, max))
    how_long = longest if shortest == longest else f"{shortest} to {longest}"
    if len(agents) == 1:
        return f"Agent {agents[0]} waits {how_long} {reason}."
    named = ", ".join(map(str, agents[:_MOST_NAMED]))
    more = f" and {len(agents) - _MOST_NAMED} more" if len(agents) > _MOST_NAMED else ""
    return f"Agents {named}{more} wait {how_long} {reason}."


def _without_pairs(run: Run, training: _Training, unit: Unit) -> str:
    others_s = [idle_s for agent, idle_s in training.idle_s.items() if agent != training.last]
    mean, longest = unit.show(sum(others_s) / len(others_s)), unit.show(max(others_s))
    wait = f"The others wait {mean} on average, at most {longest}"
    if any(busy_spans(agent) for agent in run.agents if agent.agent < 0):
        return f"{wait}: for it, and for the server, which trains the upper layers of all."
    return f"{wait}: nobody takes over work of another agent."
