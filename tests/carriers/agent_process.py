"""One agent in a process of its own: `python -m tests.carriers.agent_process`, led by processes.py.

Orders come as JSON lines on the standard input, and what the agent tells goes to the standard output the same
way. At the places that it is told to stop at, it says so and waits for the order to go on: who kills it then
knows to the line what it has done.
"""

import json
import sys
import time
from pathlib import Path

import torch

from comdml_flwr.agents.measuring.compute import seconds_per_batch
from comdml_flwr.agents.steps import run_steps
from comdml_flwr.carriers.direct import deadlines
from comdml_flwr.carriers.direct.driver import DirectRounds
from comdml_flwr.carriers.transport.credentials import load_credentials
from comdml_flwr.carriers.transport.grpc import Transport
from comdml_flwr.carriers.transport.members import Limits, Member
from comdml_flwr.core.errors import ComdmlError
from comdml_flwr.runs.assemble import participants_of, program_of
from tests.small import small_config, small_fleet, small_setup

BEFORE, AFTER, SENDING = "before", "after", "sending"
"""Moments of a phase: nothing of it is done; all is done and nothing sent; two of its envelopes are there."""

NUM_SENT = 2


def tell(what, **about):
    """Write one line to whoever leads."""
    print(json.dumps({"what": what, **about}), flush=True)


class AgentProcess:
    """Runs the rounds of one agent as it is ordered to.

    Parameters
    ----------
    order : dict
        `agent`, `config` (keys of the configuration), `num_agents`, `folder` (of all certificates),
        `addresses`, `token` (of the run), `shortest_s` and `start_s` (deadlines), `pace_s` (what each round
        takes at least), `stops` (rows of round, phase, moment) and `nan_in` (round and phase before which its
        weights become NaN, or None).
    """

    def __init__(self, order):
        config = small_config(**order["config"])
        setup = small_setup(config, small_fleet(order["num_agents"]))
        self._agent = next(one for one in participants_of(setup) if one.id == order["agent"])
        self._program, self._order = program_of(setup), order
        self._members = [Member(agent, address) for agent, address in enumerate(order["addresses"])]
        self._credentials = load_credentials(
            Path(order["folder"]) / f"agent-{self._agent.id}", self._agent.id
        )
        self._stops = {tuple(stop) for stop in order["stops"]}
        self._left_over = ()
        self._step, self._sent_to = None, []
        self._free_s, self._waits = 0.0, []
        deadlines.SHORTEST_S = order["shortest_s"]

    def run(self, first, last, absent):
        """Run the rounds of one message, and tell of each."""
        self._deadlines = deadlines.Deadlines(self._order["start_s"], 0.1)
        limits = Limits(patience_s=self._order["start_s"])
        listen = self._members[self._agent.id].address
        with Transport(
            self._agent.id, listen, self._members, self._credentials, self._order["token"], limits=limits
        ) as transport:
            self._transport, self._send = transport, transport.send
            transport.send = self._watched_send
            rounds = DirectRounds(
                self._agent,
                self._program,
                transport,
                self._deadlines,
                seconds_per_batch=seconds_per_batch(self._agent.setup, self._agent.id),
                left_over=self._left_over,
                absent=absent,
                run_steps=self._watched_steps,
            )
            self._waits, self._free_s = [], time.monotonic()
            for round_, report in rounds.run(first, last):
                self._note_wait()
                told = {name: report.get(name) for name in ("gone", "taken_back", "not_finite", "elapsed_s")}
                tell("round", round=round_, digest=self._agent.weights_sha256(), **told)
            self._note_wait()
            self._left_over = rounds.left_over()
            refused = [[reason, peer, count] for (reason, peer), count in transport.refused.items()]
            tell("ended", gone=rounds.gone, waits=self._waits, refused=refused)

    def _watched_steps(self, agent, program, steps, inbox, absence):
        (step,) = steps
        self._note_wait()
        self._step, self._sent_to = step, []
        if step.phase == 0:
            time.sleep(self._order["pace_s"])
        self._stop(BEFORE)
        if self._order["nan_in"] == [step.round, step.phase]:
            agent.tensors["own/body"] = torch.full_like(agent.tensors["own/body"], torch.nan)
        done = run_steps(agent, program, steps, inbox, absence)
        self._stop(AFTER)
        self._free_s = time.monotonic()
        return done

    def _watched_send(self, envelope, timeout_s):
        if len(self._sent_to) == NUM_SENT and self._is_stop(SENDING):
            self._transport.flush(self._order["start_s"], {*self._sent_to})
            self._stop(SENDING)
        self._sent_to.append(envelope.receiver)
        self._send(envelope, timeout_s)

    def _is_stop(self, moment):
        return self._step is not None and (self._step.round, self._step.phase, moment) in self._stops

    def _stop(self, moment):
        if self._is_stop(moment):
            self._stops.remove((self._step.round, self._step.phase, moment))
            tell("at", place=[self._step.round, self._step.phase, moment])
            order = json.loads(sys.stdin.readline())
            assert order["do"] == "go on", order

    def _note_wait(self):
        """Note how long it had nothing to do but wait for others, and what its deadline was."""
        now = time.monotonic()
        self._waits.append([now - self._free_s, self._deadlines.seconds])
        self._free_s = now


def main():
    """Follow the orders until there are no more."""
    small_setup(small_config(), small_fleet(2))  # loads what is slow to load
    tell("ready")
    agent = None
    for line in sys.stdin:
        order = json.loads(line)
        try:
            if order["do"] == "begin":
                agent = AgentProcess(order)
                tell("begun")
            else:
                agent.run(order["first"], order["last"], order["absent"])
        except ComdmlError as error:
            tell("failed", line=str(error))


if __name__ == "__main__":
    main()
