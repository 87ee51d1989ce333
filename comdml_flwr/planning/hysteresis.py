"""Hysteresis: a pairing is replaced only where that gains enough.

New partners cost something that the cost model does not see (another split of the model, another auxiliary
head, a connection to open), and a plan that follows every flicker of the speeds never settles. So:

    best  the plan that the solver finds for this round's profiles
    kept  the previous pairs, priced under this round's profiles; pairs with an absent agent, without a link,
          or that no longer gain anything are left out
    kept stays while  makespan(kept) - makespan(best) < threshold * makespan(kept)

With threshold 0 the best plan always wins. All agents must hold the same previous pairing: it travels with
the introductions, and the one of the latest round counts (an agent that was absent knows an older one).
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from comdml_flwr.core.errors import InputError
from comdml_flwr.core.typed_json import Json, read_int, read_triples
from comdml_flwr.planning.pairing import price_pairs
from comdml_flwr.planning.types import CutTable, Plan, Profile


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairing:
    """Who helped whom at which cut, and when.

    Parameters
    ----------
    round : int
        Of the plan; 0 if there was none yet.
    pairs : tuple[tuple[int, int, int], ...]
        (slow, fast, cut) in ascending id of the slow agent.
    """

    round: int = 0
    pairs: tuple[tuple[int, int, int], ...] = ()


def pairing_of(plan: Plan, round_: int) -> Pairing:
    """Return what is to be remembered of a round's plan."""
    return Pairing(round=round_, pairs=tuple((pair.slow, pair.fast, pair.cut) for pair in plan.pairs))


def latest_pairing(known: Iterable[Pairing]) -> Pairing:
    """Return the pairing of the latest round that somebody knows; the first one of that round."""
    return max(known, key=lambda pairing: pairing.round, default=Pairing())


def keep_or_replace(
    previous: Pairing, best: Plan, profiles: Sequence[Profile], cuts: CutTable, *, threshold: float
) -> Plan:
    """Return the plan of a round: the previous pairs if the best plan is not much better.

    Parameters
    ----------
    previous : Pairing
        The latest one, the same for all who call this.
    best : Plan
        What a solver finds for these profiles.
    profiles, cuts
        Of the round.
    threshold : float
        The share of the kept plan's makespan that a replacement must gain, in [0, 1); 0: always the best.

    Returns
    -------
    Plan
        `best`, or a plan of the same solver and time model with the previous pairs.

    Raises
    ------
    InputError
        The threshold is not in [0, 1).
    """
    if not 0 <= threshold < 1:
        raise InputError("hysteresis", threshold, "must be in [0, 1)")
    if threshold == 0 or previous.round == 0:
        return best
    kept = price_pairs(profiles, cuts, previous.pairs, solver=best.solver, time_model=best.time_model)
    if kept is None or kept.makespan_s - best.makespan_s >= threshold * kept.makespan_s:
        return best
    return kept


def num_new_pairs(pairing: Pairing, previous: Pairing) -> int:
    """Return how many pairs were not there before, a pair with another cut being a new one.

    Pairs that only fall away, because an agent is absent, are not counted.
    """
    return len(set(pairing.pairs) - set(previous.pairs))


def read_pairing(round_: Json, pairs: Json) -> Pairing:
    """Read a pairing from a state or from mail. Raises TypeError where it is none."""
    return Pairing(round=read_int(round_), pairs=read_triples(pairs))


def plan_digest(profiles: tuple[Profile, ...], plan: Plan) -> str:
    """Return a digest of what the agents must agree on: profiles, solver, and pairs with their cuts."""
    text = json.dumps(
        {
            "profiles": [profile.to_json() for profile in profiles],
            "solver": [plan.solver, plan.time_model],
            "pairs": [[pair.slow, pair.fast, pair.cut] for pair in plan.pairs],
        }
    )
    return hashlib.sha256(text.encode()).hexdigest()
