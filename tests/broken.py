"""Agents whose training gives NaN or infinity in chosen rounds, on every carrier of this process."""

import torch

from comdml_flwr.agents.agent import Agent


def break_data(monkeypatch, bad, rounds=range(1, 100), value=torch.nan):
    """Put a value into each batch of an agent in these rounds."""
    real = Agent.samples

    def samples(agent, *which):
        x_NCHW, y_N = real(agent, *which)
        if agent.id == bad and agent.round in rounds:
            x_NCHW = x_NCHW.clone()
            x_NCHW[0] = value
        return x_NCHW, y_N

    monkeypatch.setattr(Agent, "samples", samples)
