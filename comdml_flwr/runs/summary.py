"""The outcome of a whole run: `summary.json`."""

from collections import Counter
from collections.abc import Iterable, Sequence

from comdml_flwr.core.config import RunConfig
from comdml_flwr.core.typed_json import Json
from comdml_flwr.runs.evaluated import last_evaluated
from comdml_flwr.runs.loop import has_ended
from comdml_flwr.runs.own_tests import spread_of
from comdml_flwr.runs.records import RoundRecord, RunRecord


def summarize(record: RunRecord, config: RunConfig, num_agents: int, elapsed_s: float) -> dict[str, Json]:
    """Return what goes into `summary.json`; times with `virtual` in their name are modelled.

    `elapsed_s` is the stopwatch over all rounds and all that was done between them.

    The times without offload are None for a method that predicts nothing. A round whose forecast is lost, as
    the agent that tells it is gone, counts there as it was. The metric is that of the last round in which a
    test sample was evaluated.
    """
    rounds = record.rounds
    virtual_s, training_s = sum(r.virtual_time_s for r in rounds), sum(r.makespan_s for r in rounds)
    no_offload_s = _total([(r.no_offload_virtual_time_s, r.virtual_time_s) for r in rounds])
    alone_s = _total([(r.no_offload_makespan_s, r.makespan_s) for r in rounds])
    judged = last_evaluated(rounds)
    spread = spread_of(judged.own_tests, judged.metric, judged.better)
    return {
        "method": config.method,
        "model": config.model,
        "dataset": config.dataset,
        "num_agents": num_agents,
        "num_rounds": len(rounds),
        "seed": config.seed,
        "carrier": config.carrier,
        "profiles": config.profiles,
        "status": "complete" if record.is_complete else "incomplete",
        "missing": record.missing,
        "mostly_gone": record.mostly_gone,
        "diverged": record.diverged,
        "metric": judged.metric,
        "better": judged.better,
        judged.metric: judged.score,
        "metric_round": judged.round if judged.is_evaluated else None,
        "own_tests": None if spread is None else spread.as_json(),
        "virtual_time_s": virtual_s,
        "no_offload_virtual_time_s": no_offload_s,
        "virtual_time_ratio": None if no_offload_s is None else virtual_s / no_offload_s,
        "virtual_training_s": training_s,
        "no_offload_virtual_training_s": alone_s,
        "virtual_training_ratio": None if alone_s is None else training_s / alone_s,
        "elapsed_s": elapsed_s,
        "bytes_sent": sum(r.bytes_sent for r in rounds),
        "stopped": f"target-metric reached in round {len(rounds)}" if has_ended(rounds, config) else None,
        "left_out": {str(agent): count for agent, count in sorted(_rounds_left_out(rounds).items())},
        "weights_sha256": record.weights_sha256,
    }


def _rounds_left_out(rounds: Iterable[RoundRecord]) -> Counter[int]:
    """Return in how many rounds an agent was left out, of those who ever were."""
    return Counter(agent for record in rounds for agent in record.left_out)


def _total(times_s: Sequence[tuple[float | None, float]]) -> float | None:
    """Return the sum of predicted times, of actual ones where there is none; None: nothing was predicted."""
    if all(predicted_s is None for predicted_s, _ in times_s):
        return None
    return sum(actual_s if predicted_s is None else predicted_s for predicted_s, actual_s in times_s)
