"""Runs whose agents are operating-system processes: they are started, led to a place, and killed there.

A process takes seconds to load what it needs, so those that are left of one run serve in the next.
"""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from tests.carriers.direct_runs import free_addresses

ROOT = Path(__file__).resolve().parents[2]
SHORTEST_S, START_S = 4.0, 30.0  # deadlines: the least there is, and until all are there
TOKEN = "run-1"
LONGEST_S = 90.0  # for anything that must come
LONGEST_LOAD_S = 300.0  # for a process to load its libraries, on a machine that has much else to do


class Process:
    """A process that can be any agent, and this end of its pipes.

    Parameters
    ----------
    log : Path
        Takes its standard error.
    """

    def __init__(self, log):
        self.log = log
        with log.open("w") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.carriers.agent_process"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        self._told = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._is_ready = False
        self.rounds = {}  # what it told of each round that it committed

    @property
    def id(self):
        """The operating system's number of it."""
        return self._process.pid

    def wait_until_ready(self):
        """Wait until it has loaded what it needs."""
        if not self._is_ready:
            self.hear("ready", LONGEST_LOAD_S)
            self._is_ready = True

    def order(self, do, **about):
        """Tell it what to do."""
        self._process.stdin.write(json.dumps({"do": do, **about}) + "\n")
        self._process.stdin.flush()

    def hear(self, what, timeout_s=LONGEST_S):
        """Wait until it tells this, and return it; what it tells of rounds is kept."""
        deadline_s = time.monotonic() + timeout_s
        while True:
            try:
                told = self._told.get(timeout=max(0.0, deadline_s - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing of {what!r} came:\n{self.log.read_text()}") from None
            if told["what"] == "round":
                self.rounds[told["round"]] = told
            if told["what"] == what:
                return told
            assert told["what"] == "round", f"{what!r} expected, {told} came:\n{self.log.read_text()}"

    def hear_of_round(self, round_):
        """Wait until it has committed a round."""
        while round_ not in self.rounds:
            self.hear("round")

    def signal(self, number):
        """Send it a signal."""
        os.kill(self._process.pid, number)

    def kill(self):
        """Kill it as nothing can be caught or cleaned up, and wait until the kernel has taken it away."""
        self.signal(signal.SIGKILL)
        self._process.wait()
        self._reader.join()
        self._process.stdin.close()
        self._process.stdout.close()

    def _read(self):
        for line in self._process.stdout:
            self._told.put(json.loads(line))
        self._told.put({"what": "the end of it"})


class Crew:
    """Processes that are ready to be agents.

    Parameters
    ----------
    folder : Path
        For their logs.
    size : int
        How many are started ahead.
    """

    def __init__(self, folder, size):
        self._folder, self._num_started = folder, 0
        self._all, self._free = [], []
        for _ in range(size):
            self._start()

    def take(self):
        """Return one that is nobody yet."""
        process = self._free.pop(0)
        process.wait_until_ready()
        return process

    def give_back(self, process):
        """Take back one that has done all that it was ordered to."""
        process.rounds = {}
        self._free.insert(0, process)

    def kill(self, process):
        """Kill one, and start another for whoever needs it next."""
        process.kill()
        self._all.remove(process)
        self._start()

    def close(self):
        """Kill all."""
        for process in self._all:
            process.kill()

    def _start(self):
        process = Process(self._folder / f"process-{self._num_started}.log")
        self._num_started += 1
        self._all.append(process)
        self._free.append(process)


class Run:
    """A run whose agents are processes.

    Parameters
    ----------
    crew : Crew
        Gives the processes.
    folder : Path
        The certificates of all agents.
    config : dict
        Keys of the configuration.
    num_agents : int
        Of the fleet.
    stops : dict
        By agent: where it stops and waits, as (round, phase, moment).
    pace_s : float
        What each round takes at least.
    nan_in : dict
        By agent: (round, phase) before which its weights become NaN.
    absent : tuple
        Agents that are members, and have no process.
    shortest_s : float
        The shortest deadline.
    """

    def __init__(
        self,
        crew,
        folder,
        config,
        num_agents,
        *,
        stops=(),
        pace_s=0.0,
        nan_in=(),
        absent=(),
        shortest_s=SHORTEST_S,
    ):
        self._crew = crew
        self.addresses = free_addresses(num_agents)
        stops, nan_in = dict(stops), dict(nan_in)
        self._orders = {
            agent: {
                "agent": agent,
                "config": config,
                "num_agents": num_agents,
                "folder": str(folder),
                "addresses": self.addresses,
                "token": TOKEN,
                "shortest_s": shortest_s,
                "start_s": START_S,
                "pace_s": pace_s,
                "stops": [list(stop) for stop in stops.get(agent, ())],
                "nan_in": nan_in.get(agent),
            }
            for agent in range(num_agents)
        }
        self.processes, self._absent = {}, set(absent)
        self.reports = {}  # by round and agent
        self.waits = {}  # by agent: seconds, and the deadline at that time
        self.refused = {}  # by agent, in the last message: how often, by reason and peer
        for agent in self._orders.keys() - self._absent:
            self._begin(agent)
        for process in self.processes.values():
            process.hear("begun")

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        for process in self.processes.values():
            self._crew.give_back(process) if kind is None else self._crew.kill(process)

    def start(self, first, last):
        """Let all who are there run the rounds of a message."""
        self._message = first, last
        for process in self.processes.values():
            process.order("run", first=first, last=last, absent=sorted(self._absent))

    def at_its_place(self, agent):
        """Wait until an agent is where it was to stop, and return its process."""
        self.processes[agent].hear("at")
        return self.processes[agent]

    def hear_of_round(self, round_, *, without):
        """Wait until all but some have committed a round."""
        for agent, process in self.processes.items():
            if agent not in without:
                process.hear_of_round(round_)

    def kill(self, agent):
        """Kill an agent's process."""
        self._crew.kill(self.processes.pop(agent))

    def start_again(self, agent, *, stops=()):
        """Invite an agent to the rounds that run, in a new process that knows nothing."""
        self._orders[agent]["stops"] = [list(stop) for stop in stops]
        self._begin(agent).hear("begun")
        first, last = self._message
        absent = sorted(self._absent | {agent})
        self.processes[agent].order("run", first=first, last=last, absent=absent)

    def finish(self, timeout_s=LONGEST_S):
        """Wait for the end of the message; note what all told, and who has not the current model."""
        ended = {agent: process.hear("ended", timeout_s) for agent, process in sorted(self.processes.items())}
        gone = {agent: set(told["gone"]) for agent, told in ended.items()}
        witness = min(ended, key=lambda agent: (sum(agent in others for others in gone.values()), agent))
        self._absent = gone[witness] | (self._orders.keys() - ended.keys())
        for agent, told in ended.items():
            self.waits.setdefault(agent, []).extend(told["waits"])
            self.refused[agent] = {(reason, peer): count for reason, peer, count in told["refused"]}
            for round_, report in self.processes[agent].rounds.items():
                self.reports.setdefault(round_, {})[agent] = report

    def _begin(self, agent):
        process = self.processes[agent] = self._crew.take()
        process.order("begin", **self._orders[agent])
        return process
