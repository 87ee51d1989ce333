"""Folders of comparisons that the tests share, with a comparison.json computed from their runs."""

import json
import statistics
from itertools import accumulate

from comdml_flwr.comparison.records import run_folder
from tests.comparison.runs import made_up_run, real_run


def write_folder(folder, cases, *, targets=(0.3, 0.5), reference=None, name="small", about="Four agents."):
    """Write a comparison's folder: `cases` holds runs by case, label and seed.

    Returns the folder.
    """
    labels = [label for methods in cases.values() for label in methods]
    reference = reference or labels[0]
    seeds = sorted({seed for methods in cases.values() for runs in methods.values() for seed in runs})
    numbers = {
        "name": name,
        "about": about,
        "targets": list(targets),
        "reference": reference,
        "seeds": seeds,
        "cases": [
            {
                "label": case,
                "fleet": "ten.toml",
                "num_agents": _num_agents(methods),
                "settings": {"partition": "iid"},
                "methods": [
                    {
                        "label": label,
                        "settings": {"num-rounds": 3, "method": label.split()[0].lower().strip(",")},
                        **_numbers(runs, methods.get(reference), targets),
                    }
                    for label, runs in methods.items()
                ],
            }
            for case, methods in cases.items()
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "comparison.json").write_text(json.dumps(numbers, indent=2))
    for case, methods in cases.items():
        for label, runs in methods.items():
            for seed, run in runs.items():
                _write_run(run_folder(folder, case, label, seed), run)
    return folder


def _write_run(path, run):
    path.mkdir(parents=True, exist_ok=True)
    (path / "config.json").write_text(json.dumps(run.config))
    (path / "rounds.jsonl").write_text("".join(f"{json.dumps(round_)}\n" for round_ in run.rounds))
    (path / "agents.json").write_text(json.dumps({"round": 1, "agents": run.agents}))
    (path / "summary.json").write_text(json.dumps(run.summary))


def _num_agents(methods):
    agents = [run.agents for runs in methods.values() for run in runs.values()]
    return max(sum(agent["agent"] >= 0 for agent in of_run) for of_run in agents)


def _numbers(runs, reference_runs, targets):
    per_run = {
        "accuracy": lambda run: run.rounds[-1]["accuracy"],
        "virtual_time_s": lambda run: sum(round_["virtual_time_s"] for round_ in run.rounds),
        "bytes_sent": lambda run: sum(round_["bytes_sent"] for round_ in run.rounds),
        "round_virtual_time_s": lambda run: statistics.mean(r["virtual_time_s"] for r in run.rounds),
    }
    found = {name: _values({seed: of(run) for seed, run in runs.items()}) for name, of in per_run.items()}
    for name, quantity in (("time_to", "virtual_time_s"), ("bytes_to", "bytes_sent")):
        found[name] = {
            f"{target:g}": _reached(runs, reference_runs or {}, target, quantity) for target in targets
        }
    return found


def _reached(runs, reference_runs, target, quantity):
    own = {seed: _first(run, target, quantity) for seed, run in runs.items()}
    other = {seed: _first(run, target, quantity) for seed, run in reference_runs.items()}
    is_complete = None not in own.values() and own.keys() == other.keys() and None not in other.values()
    return {
        **_values(own),
        "num_reached": sum(value is not None for value in own.values()),
        "ratio_to_reference": statistics.mean(own[seed] / other[seed] for seed in own)
        if is_complete
        else None,
    }


def _first(run, target, quantity):
    so_far = accumulate(round_[quantity] for round_ in run.rounds)
    return next(
        (x for x, round_ in zip(so_far, run.rounds, strict=True) if round_["accuracy"] >= target), None
    )


def _values(by_seed):
    values = list(by_seed.values())
    is_complete = None not in values
    return {
        "mean": statistics.mean(values) if is_complete else None,
        "spread": statistics.stdev(values) if is_complete and len(values) > 1 else None,
        "by_seed": {str(seed): value for seed, value in by_seed.items()},
    }


def real_folder(folder):
    """Write three real methods with two seeds; no method reaches the second target."""
    methods = {
        "ComDML": {"method": "comdml"},
        "AllReduce": {"method": "allreduce"},
        "ComDML, greedy": {"method": "comdml", "solver": "greedy"},
    }
    runs = {label: {seed: real_run(seed, **keys) for seed in (1, 2)} for label, keys in methods.items()}
    return write_folder(folder, {"4 agents, IID": runs}, targets=(0.15, 0.99), reference="AllReduce")


MAIN_METHODS = {
    "ComDML": {"speed": 0.95, "has_pairs": True},
    "ComDML greedy": {"speed": 1.0, "has_pairs": True},
    "ComDML mixing": {"speed": 1.1, "has_pairs": True, "final": 0.96},
    "AllReduce": {"speed": 1.0},
    "FedAvg": {"speed": 1.1, "has_server": True},
    "SplitFed V1": {"speed": 0.9, "has_server": True, "final": 0.94},
    "SplitFed V2": {"speed": 1.3, "has_server": True, "final": 0.9},
    "Gossip": {"speed": 0.95, "final": 0.93},
    "BrainTorrent": {"speed": 1.2, "final": 0.95},
    "D-PSGD": {"speed": 1.05, "final": 0.88},
}


def made_up_folder(
    folder,
    *,
    num_agents=10,
    num_rounds=20,
    seeds=(1, 2, 3),
    targets=(0.9, 0.95),
    methods=tuple(MAIN_METHODS),
):
    """Write a case of methods that nobody trained."""
    runs = made_up_case(methods, num_agents=num_agents, num_rounds=num_rounds, seeds=seeds)
    return write_folder(folder, {f"{num_agents} agents": runs}, targets=targets, reference="FedAvg")


def made_up_case(methods, *, num_agents, num_rounds, seeds):
    """Return runs that nobody trained by label and seed."""
    return {
        label: {
            seed: made_up_run(seed, num_agents, num_rounds=num_rounds, **MAIN_METHODS[label])
            for seed in seeds
        }
        for label in methods
    }
