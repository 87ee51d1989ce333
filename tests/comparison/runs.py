"""Runs that the tests share: real small ones, and made-up ones where only size matters."""

import random
from contextlib import ExitStack
from dataclasses import dataclass
from functools import lru_cache
from unittest.mock import patch

import numpy as np

from comdml_flwr.agent import Agent
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
        def work(clock, *args):
            start_s = clock.now_s
            self.work(clock, *args)
            self.note(clock, "compute", start_s, clock.now_s)

        def send(clock, receiver, *args):
            start_s = max(clock.now_s, clock.uplink_free_s)
            arrives_s = self.send(clock, receiver, *args)
            self.note(clock, "send", start_s, clock.uplink_free_s, peer=receiver)
            return arrives_s

        def wait(clock, *args):
            start_s = clock.now_s
            self.wait(clock, *args)
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
            "bytes_sent": int(4e6 * (num_agents - 1) * speed * rng.uniform(0.9, 1.1)),
            "plan": {
                "pairs": [{"slow": slow, "fast": fast, "cut": 1 + (slow + seed) % 8} for slow, fast in pairs],
                "solo": [agent for agent in range(num_agents) if agent not in paired],
            },
        }
        for number in range(1, num_rounds + 1)
    ]
    return Run(config={"seed": seed}, rounds=rounds, agents=agents, summary={"num_rounds": num_rounds})
