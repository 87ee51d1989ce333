"""Runs that the tests share: real small ones, and made-up ones where only size matters."""

import random
from dataclasses import dataclass
from functools import lru_cache

from comdml_flwr.runs.records import as_json
from comdml_flwr.runs.summary import summarize
from tests.small import run_local, small_config, small_fleet


@dataclass(frozen=True, kw_only=True)
class Run:
    """What a run writes: lists and tables as in its files."""

    config: dict
    rounds: list
    agents: list
    summary: dict


@lru_cache
def real_run(seed=1, num_agents=4, **keys):
    """Run the small network on real digits; its timeline is what the agents' clocks really did."""
    config = small_config(seed=seed, num_rounds=3, local_epochs=2, **keys)
    record, _ = run_local(config, small_fleet(num_agents))
    return Run(
        config=config.with_defaults_named(),
        rounds=[as_json(round_) for round_ in record.rounds],
        agents=list(record.rounds[0].agents),
        summary=summarize(record, config, num_agents, record.elapsed_s),
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
