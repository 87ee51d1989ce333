"""What a comparison found, in words: as strong as the fairest baseline and the number of seeds allow.

The subject is the first method that offloads between agents (`method = "comdml"`), or else the first that is
not the reference. It is held against the reference, and against the quickest of the others; its own variants
count among these only where there is nothing else. A method is called quicker than another if it was so with
every seed; where they differ by seed, neither is.
"""

from collections.abc import Sequence

from comdml_flwr.comparison.contents import MethodNumbers, Reached, metric_words
from comdml_flwr.core.units import human_bytes, unit_of_s
from comdml_flwr.learning.metrics import rank

_SAME = 0.005  # times that differ by a smaller share are called equal


def verdict(methods: Sequence[MethodNumbers], targets: Sequence[float], reference: str) -> str:
    """Return the verdict on a case: how soon its subject reached a target, who was quicker, at what cost.

    Parameters
    ----------
    methods : Sequence[MethodNumbers]
        In the order of the comparison.
    targets : Sequence[float]
        Of the task's metric. The best that the subject reached with all seeds is the one that counts.
    reference : str
        Label of the method that ratios are taken to.
    """
    subject = next((m for m in methods if _kind(m) == "comdml"), None)
    subject = subject or next((m for m in methods if m.label != reference), methods[0])
    others = [m for m in methods if m is not subject]
    rivals = [m for m in others if _kind(m) != _kind(subject)] or others
    compared = next((m for m in others if m.label == reference), None)
    easiest_first = sorted(targets, key=lambda target: rank(target, subject.better))
    reached = [target for target in easiest_first if subject.time_to[target].mean is not None]
    missed = easiest_first[easiest_first.index(reached[-1]) + 1 :] if reached else easiest_first
    said = [_time(subject, reached[-1], rivals, reference)] if reached else []
    but = "" if len(rivals) == len(others) else " but its own variants"
    said += [_rank(subject, reached[-1], rivals, but)] if reached else []
    said += [_missed(subject, missed[0], rivals, compared)] if missed else []
    return " ".join(sentence for sentence in (*said, _cost(subject, compared)) if sentence)


def ran_for(method: MethodNumbers) -> str:
    """Return how long a method's longest run was, for people: a target was not reached in that time."""
    times_s = [time_s for time_s in method.virtual_time_s.by_seed.values() if time_s is not None]
    return unit_of_s(max(times_s, default=0.0)).show(max(times_s, default=0.0))


def shares_left_out(methods: Sequence[MethodNumbers]) -> str:
    """Say whose share was left out in how many rounds; empty if nobody's was."""
    said = []
    for method in methods:
        for seed, by_agent in method.left_out.items():
            agents = ", ".join(f"agent {agent} in {_rounds(num)}" for agent, num in by_agent.items())
            said.append(f"{method.label}, seed {seed}: {agents}")
    return "; ".join(said)


def _rounds(num: int) -> str:
    return f"{num} round{'' if num == 1 else 's'}"


def _kind(method: MethodNumbers) -> str:
    return str(method.settings.get("method", method.label))


def _quickest(rivals: Sequence[MethodNumbers], target: float) -> MethodNumbers | None:
    there = [(rival.time_to[target].mean, rival) for rival in rivals]
    return min(
        ((mean_s, rival) for mean_s, rival in there if mean_s is not None),
        key=lambda found: found[0],
        default=(None, None),
    )[1]


def _time(subject: MethodNumbers, target: float, rivals: Sequence[MethodNumbers], reference: str) -> str:
    own = subject.time_to[target]
    num_seeds = len(own.by_seed)
    seeds = f"mean of {num_seeds} seeds" if num_seeds > 1 else "one seed"
    if own.ratio_to_reference is None or subject.label == reference:
        said = f"{subject.label} reached {_shown(target, subject)} in {_mean(own)} of virtual time ({seeds})"
    else:
        ratio = f"{own.ratio_to_reference:.2f} of {reference}'s virtual time"
        said = f"{subject.label} reached {_shown(target, subject)} in {ratio} ({_mean(own)}, {seeds})"
    best = _quickest(rivals, target)
    if best is None or best.label == reference:
        return f"{said}."
    other = best.time_to[target]
    in_ = (
        _mean(other)
        if other.ratio_to_reference is None
        else f"{other.ratio_to_reference:.2f} ({_mean(other)})"
    )
    return f"{said}, {best.label}, the quickest rival, in {in_}."


def _rank(subject: MethodNumbers, target: float, rivals: Sequence[MethodNumbers], but: str) -> str:
    """Say whether the subject was the quickest: only what holds with every seed is said without doubt.

    `but` says in words which methods are no rivals.
    """
    own, label = subject.time_to[target], subject.label
    num_seeds = len(own.by_seed)
    chance = "" if num_seeds > 1 else ", which with one seed may be chance"
    every = " with every seed" if num_seeds > 1 else ""
    ahead = [
        (rival.label, *_counts(rival.time_to[target], own))
        for rival in rivals
        if rival.time_to[target].num_reached
    ]
    if not ahead:
        return f"No other method{but} got there{chance}." if rivals else ""
    name, quicker, slower = max(ahead, key=lambda found: found[1] - found[2])
    if quicker == num_seeds:
        return f"{label} was slower than {name}{every}{chance}."
    if all(not quicker and slower for _, quicker, slower in ahead):
        return f"{label} was quicker than every other method{but}{every}{chance}."
    if not quicker and not slower:
        return f"{label} and {name} took equally long{every}{chance}."
    return (
        f"Between {label} and {name} it is too close to call: {name} was quicker with {quicker} of"
        f" {num_seeds} seeds, slower with {slower}."
    )


def _counts(own: Reached, other: Reached) -> tuple[int, int]:
    """Return with how many seeds the first was quicker, and with how many slower, of those that both have."""
    pairs = [
        (mine, theirs)
        for seed, mine in own.by_seed.items()
        if mine is not None and (theirs := other.by_seed.get(seed)) is not None
    ]
    quicker = sum(mine < (1 - _SAME) * theirs for mine, theirs in pairs)
    return quicker, sum(theirs < (1 - _SAME) * mine for mine, theirs in pairs)


def _missed(
    subject: MethodNumbers, target: float, rivals: Sequence[MethodNumbers], compared: MethodNumbers | None
) -> str:
    """Say who reached a target that the subject did not reach with every seed."""
    best = _quickest(rivals, target)
    shown = {method.label: method for method in (subject, compared, best) if method is not None}
    said = [f"{m.label} {_how_often(m.time_to[target], ran_for(m))}" for m in shown.values()]
    return f"{_shown(target, subject)}: {', '.join(said)}."


def _how_often(reached: Reached, ran: str) -> str:
    if reached.mean is not None:
        return f"reached it in {_mean(reached)}"
    if not reached.num_reached:
        return f"did not reach it within {ran}"
    return f"reached it with {reached.num_reached} of {len(reached.by_seed)} seeds within {ran}"


def _cost(subject: MethodNumbers, compared: MethodNumbers | None) -> str:
    """Say how good the subject was in the end and what it sent, next to the reference."""
    said = f"In the end {subject.label}'s {metric_words(subject.metric)} was {_score(subject)}"
    if compared is None:
        return f"{said}."
    said += f", {compared.label}'s {_score(compared)}"
    own, other = subject.bytes_sent.mean, compared.bytes_sent.mean
    if not own or not other:
        return f"{said}."
    return f"{said}; it had sent {human_bytes(own)}, {own / other:.2f} times as much."


def _score(method: MethodNumbers) -> str:
    values = method.score
    spread = "" if values.spread is None else f" ± {values.spread:.3f}"
    return "unknown" if values.mean is None else f"{values.mean:.3f}{spread}"


def _mean(reached: Reached) -> str:
    return "" if reached.mean is None else unit_of_s(reached.mean).show(reached.mean, reached.spread)


def _shown(target: float, method: MethodNumbers) -> str:
    return show_target(target, method.metric)


def show_target(target: float, metric: str) -> str:
    """Return a target for people: an accuracy in percent, another metric with its name."""
    if metric == "accuracy":
        return f"{100 * target:.4g} %"
    return f"a {metric_words(metric)} of {target:.4g}"
