"""Folders of comparisons that the tests share: real small runs, and made-up ones where only size matters."""

import json
import random
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from unittest.mock import patch

import numpy as np

from comdml_flwr.agent import Agent
from comdml_flwr.comparison.records import run_folder
from comdml_flwr.planning.clock import Clock
from comdml_flwr.rounds import as_json, summarize
from tests.small import few_digits, run_local, small_config, small_fleet


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run writes: lists and tables as in its files."""

    config: dict
    rounds: list
    agents: list
    summary: dict


class Recorder:
    """Writes down what the agents' own clocks do in the first round."""

    def __init__(self):
        self.spans, self.clocks = [], []
        self.begin_round = Agent.begin_round
        self.work, self.send, self.wait = Clock.work, Clock.send, Clock.wait

    def recording(self):
        def work(clock, num_batches):
            start_s = clock.now_s
            self.work(clock, num_batches)
            self.note(clock, "compute", start_s, clock.now_s)

        def send(clock, receiver, num_bytes):
            start_s = max(clock.now_s, clock.uplink_free_s)
            arrives_s = self.send(clock, receiver, num_bytes)
            self.note(clock, "send", start_s, clock.uplink_free_s, peer=receiver)
            return arrives_s

        def wait(clock, arrives_s):
            start_s = clock.now_s
            self.wait(clock, arrives_s)
            self.note(clock, "wait", start_s, clock.now_s)

        def begin_round(agent, round_):
            self.begin_round(agent, round_)
            if round_ == 1:
                self.clocks.append(agent.clock)

        recording = ExitStack()
        recording.enter_context(patch.multiple(Clock, work=work, send=send, wait=wait))
        recording.enter_context(patch.object(Agent, "begin_round", begin_round))
        return recording

    def note(self, clock, what, start_s, end_s, **peer):
        if end_s > start_s and any(clock is own for own in self.clocks):
            span = {"what": what, "start_s": start_s, "end_s": end_s, **peer}
            self.spans.append((clock.agent, span))

    def first_round(self, agent):
        return sorted((span for own, span in self.spans if own == agent), key=lambda span: span["start_s"])


@lru_cache
def real_run(seed=1, num_agents=4, **keys):
    """Run the small network on real digits; its timeline is what the agents' clocks really did."""
    config = small_config(seed=seed, num_rounds=3, **keys)
    recorder = Recorder()
    with recorder.recording():
        record, agents = run_local(config, small_fleet(num_agents))
    labels = few_digits().y_train_N.numpy()
    return Run(
        config=config.with_defaults_named(),
        rounds=[as_json(round_) for round_ in record.rounds],
        agents=[
            {
                "agent": agent.id,
                "num_samples": agent.num_samples,
                "label_counts": np.bincount(labels[agent.setup.parts[agent.id]], minlength=10).tolist(),
                "batches_per_s": agent.profile.batches_per_s,
                "timeline": recorder.first_round(agent.id),
            }
            for agent in agents
        ],
        summary=summarize(record, config, num_agents),
    )


def made_up_run(
    seed=1, num_agents=4, *, num_rounds=3, speed=1.0, final=0.97, has_pairs=False, has_server=False
):
    """Return a run of any size that nobody trained: for looks and sizes, not for results."""
    rng = random.Random(f"{seed} {num_agents} {speed}")
    speeds = [(4, 2, 1, 0.5, 0.2)[agent % 5] for agent in range(num_agents)]
    by_speed = sorted(range(num_agents), key=lambda agent: speeds[agent])
    matched = list(zip(by_speed[: num_agents // 2], reversed(by_speed), strict=False)) if has_pairs else []
    pairs = [(slow, fast) for slow, fast in matched if speeds[slow] < speeds[fast]]
    paired = {agent for pair in pairs for agent in pair}
    helped = {slow for slow, _ in pairs}
    ends = [10 * speed / (value if agent not in helped else 1.2) for agent, value in enumerate(speeds)]
    round_s = 1.15 * max(ends)
    agents = [
        {
            "agent": agent,
            "num_samples": sum(counts),
            "label_counts": counts,
            "batches_per_s": speeds[agent],
            "timeline": [
                {"what": "compute", "start_s": 0.0, "end_s": ends[agent]},
                *(
                    [{"what": "send", "start_s": 0.1, "end_s": 0.8 * ends[agent], "peer": 0}]
                    if agent in helped
                    else []
                ),
                {"what": "wait", "start_s": ends[agent], "end_s": max(ends)},
                {"what": "send", "start_s": max(ends), "end_s": max(ends) * 1.1, "peer": 0},
            ],
        }
        for agent in range(num_agents)
        for counts in ([max(0, int(rng.gauss(14, 9))) for _ in range(10)],)
    ]
    if has_server:
        agents.insert(0, {"agent": -1, "timeline": [{"what": "send", "start_s": 0, "end_s": 0.3 * round_s}]})
    rounds = [
        {
            "round": number,
            "accuracy": final * (1 - 0.8 * 0.72**number) + rng.uniform(-0.012, 0.012),
            "virtual_time_s": round_s * rng.uniform(0.97, 1.03),
            "bytes_sent": int(4e6 * num_agents * speed * rng.uniform(0.9, 1.1)),
            "plan": {
                "pairs": [{"slow": slow, "fast": fast, "cut": 1 + (slow + seed) % 8} for slow, fast in pairs],
                "solo": [agent for agent in range(num_agents) if agent not in paired],
            },
        }
        for number in range(1, num_rounds + 1)
    ]
    return Run(config={"seed": seed}, rounds=rounds, agents=agents, summary={"num_rounds": num_rounds})


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
