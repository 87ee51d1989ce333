"""An agent and what outlives a phase.

`Setup` is what all agents of a run share and never changes; `Agent` is one of them, or the server of a method
that has one. Whatever a phase wants to find again in a later phase it puts into `tensors` (in a slot that its
method declares, see `agents.state`), `paused`, or, until the round ends, `notes`: nothing else remembers,
because on the grid the next phase may run in another process.
"""

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from comdml_flwr.agents.setup import Setup
from comdml_flwr.agents.state import ENDED, WEIGHTS, State, sha256_of
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Array, Envelope, Report, size_of
from comdml_flwr.core.program import NOBODY, Absence
from comdml_flwr.core.seeds import derive_seed
from comdml_flwr.core.typed_json import Json, read_float, read_int, read_table
from comdml_flwr.learning.data.batches import batches
from comdml_flwr.learning.data.source import AgentData, Samples
from comdml_flwr.learning.learner_pool import LearnerPool
from comdml_flwr.learning.schedule import learning_rate
from comdml_flwr.learning.structure import Nested
from comdml_flwr.learning.suspended import SuspendedTraining
from comdml_flwr.learning.training import Learner
from comdml_flwr.planning.clock.clock import Clock, new_clock, read_spans
from comdml_flwr.planning.hysteresis import Pairing, read_pairing
from comdml_flwr.planning.measured import Measured
from comdml_flwr.planning.participation import newcomers_after
from comdml_flwr.planning.types import SERVER, Profile

OBSERVED_S, OBSERVED_BATCHES = "observed_s", "observed_batches"  # among the notes


@dataclass(slots=True)
class Agent:
    """One agent: its weights, what it remembers between phases and rounds, and its virtual clock.

    Parameters
    ----------
    id : int
        Its id in the fleet, or SERVER.
    setup : Setup
        What all agents share.
    """

    id: int
    setup: Setup
    round: int = 0
    tensors: State = field(init=False)
    paused: dict[str, SuspendedTraining] = field(default_factory=dict)  # for a later phase
    notes: dict[str, Json] = field(default_factory=dict)
    measured: Measured | None = None  # of itself, before this round; None where the fleet file holds
    pairing: Pairing = field(default_factory=Pairing)  # of the last round in which it took part
    bytes_sent: int = 0
    ended_round: int = 0  # the round whose model is among the tensors as "ended"; 0: there is none
    model_of: int = 0  # the last round whose model it has
    absence: Absence = NOBODY  # as the carrier tells it with each step, and so:
    num_reductions: int = 0  # of the learning rate before this round
    report: Report = field(default_factory=dict)
    clock: Clock = field(init=False)
    _drawn: tuple[tuple[int, str], list[Tensor]] | None = None  # can be drawn again: no part of the state

    def __post_init__(self) -> None:
        self.tensors = State(self.setup.slots, self.setup.initial_weights_P)
        self.clock = self.new_clock()

    def new_clock(self) -> Clock:
        """Return a clock of this agent at 0; in the first round it keeps a timeline."""
        return new_clock(self.profile, self.setup.relay, keeps_spans=self.round == 1)

    @property
    def profile(self) -> Profile:
        """What it tells of itself in this round: what the fleet file says, or what it has measured."""
        told = self.setup.profiles_at(max(1, self.round))[self.id]
        return self.measured.instead_of(told) if self.measured else told

    @property
    def gone(self) -> frozenset[int]:
        """Who failed, or was given up, and is not back in this round."""
        return self.absence.in_round(self.round)

    @property
    def members(self) -> tuple[int, ...]:
        """Who takes part in this round, ascending: those who were drawn and are not gone."""
        return self.present(self.round)

    def present(self, round_: int) -> tuple[int, ...]:
        """Return who takes part in a round, as far as this agent knows."""
        return self.absence.without(self.setup.present(round_), round_)

    @property
    def newcomers(self) -> tuple[int, ...]:
        """Who lacks this round's model and takes part in the next: absent or gone now, and there then."""
        return newcomers_after(self.round, self.setup.config.num_rounds, self.present)

    @property
    def weights_P(self) -> Tensor:
        """All float weights of its model, in the model's order; replaced, never written into."""
        return self.tensors[WEIGHTS.name]

    @property
    def is_server(self) -> bool:
        """Whether it is the server of a method that has one."""
        return self.id == SERVER

    @property
    def learning_rate(self) -> float:
        """The rate of this round."""
        return learning_rate(self.setup.config, self.round, self.num_reductions)

    @property
    def learners(self) -> LearnerPool:
        """The learners of this thread, which step at the rate of this round."""
        return self.setup.learners.at_rate(self.learning_rate)

    @property
    def num_samples(self) -> int:
        """How many training samples it has."""
        return len(self.training_data)

    @property
    def data(self) -> AgentData:
        """Its samples."""
        return self.setup.data(self.id)

    @property
    def training_data(self) -> Samples:
        """The samples that it trains on; a server has none."""
        return self.data.train

    def describe_data(self) -> dict[str, Json]:
        """Return what `agents.json` tells of its training data; a server has none."""
        targets = self.training_data.all_targets()
        described = {} if targets is None else self.setup.task.describe(targets)
        return {"num_samples": self.num_samples, **described}

    def number(self, note: str) -> int:
        """Return a note that is a whole number."""
        return read_int(self.notes[note])

    def note_ids(self, note: str) -> tuple[int, ...]:
        """Return a note that is a list of agent ids; empty if there is no such note."""
        ids = self.notes.get(note, ())
        return tuple(read_int(agent) for agent in ids) if isinstance(ids, list | tuple) else ()

    def note_not_finite(self, agents: Iterable[int]) -> None:
        """Note whose share of this round is left out because it held NaN or infinity."""
        if broken := {*agents}:
            self.notes["not_finite"] = sorted(broken.union(self.note_ids("not_finite")))

    def keep(self, name: str, array: Array) -> None:
        """Keep a tensor under a name; a copy, because mail is read-only and its buffer goes away."""
        self.tensors[name] = torch.from_numpy(np.array(array))

    def suspend(self, part: str, learner: Learner, *, finished: bool) -> None:
        """Keep a training under `part`: its weights as the tensors `part/...`, or so that it can go on."""
        self.forget(part)
        if finished:
            self.tensors.update({f"{part}/{name}": x for name, x in learner.weights().items()})
        else:
            self.paused[part] = learner.pause()

    def resume(self, part: str) -> SuspendedTraining | None:
        """Return the training that was put down under `part`; None if there is none."""
        if part in self.paused:
            return self.paused.pop(part)
        state = {n.removeprefix(f"{part}/"): x for n, x in self.tensors.items() if n.startswith(f"{part}/")}
        return SuspendedTraining(state) if state else None

    def forget(self, part: str) -> None:
        """Drop what `suspend` kept under `part`, and under `part/...`."""
        for paused in [name for name in self.paused if f"{name}/".startswith(f"{part}/")]:
            del self.paused[paused]
        for name in [name for name in self.tensors if name.startswith(f"{part}/")]:
            del self.tensors[name]

    def end_round(self) -> None:
        """Hold on to the model that this round has ended with, until it is known whether it is the best one.

        That is known at the next exchange, which may begin after this agent has trained on.
        """
        self.ended_round, self.tensors[ENDED.name] = self.round, self.weights_P
        self.model_of = self.round

    def let_go(self) -> None:
        """Drop the model that the last round ended with."""
        self.ended_round = 0
        self.tensors.pop(ENDED.name, None)

    def begin_round(self, round_: int) -> None:
        """Forget the last round's notes and trainings and set the clock to 0."""
        self.round, self.bytes_sent = round_, 0
        self.paused.clear()
        self.tensors.begin_round()
        self._take_in_observed()
        self.notes.clear()
        self.clock = self.new_clock()

    @contextmanager
    def observed(self, num_batches: float) -> Iterator[None]:
        """Let the stopwatch run while it trains batches of the whole model, or a fraction of one.

        It counts from the next round on, so that within a round all plan with what was introduced.
        """
        if self.measured is None:
            yield
            return
        self.setup.device.synchronize()
        began = time.perf_counter()
        yield
        self.setup.device.synchronize()
        work_s, before = self.notes.get(OBSERVED_S, 0.0), self.notes.get(OBSERVED_BATCHES, 0.0)
        self.notes[OBSERVED_S] = read_float(work_s) + time.perf_counter() - began
        self.notes[OBSERVED_BATCHES] = read_float(before) + num_batches

    def _take_in_observed(self) -> None:
        work_s = read_float(self.notes.get(OBSERVED_S, 0.0))
        num_batches = read_float(self.notes.get(OBSERVED_BATCHES, 0.0))
        if self.measured and work_s > 0 and num_batches > 0:
            self.measured = self.measured.observe(work_s, num_batches=num_batches)

    def generator(self, purpose: str) -> torch.Generator:
        """Return a generator for one purpose of this agent in this round."""
        seed = derive_seed(self.setup.config.seed, self.round, self.id, purpose)
        return torch.Generator().manual_seed(seed)

    def draws(self, purpose: str, *, of: int | None = None, in_evaluation: bool = False) -> int | None:
        """Return the seed for what the model's layers draw; None where they draw nothing.

        Parameters
        ----------
        purpose : str
            What they run on; with one seed for a purpose, a batch can be run again.
        of : int, optional
            Whose samples, if another agent's.
        in_evaluation : bool
            Whether they are evaluated and not trained.
        """
        traits = self.setup.traits
        if not (traits.draws_in_evaluation if in_evaluation else traits.draws):
            return None
        owner = self.id if of is None else of
        return derive_seed(self.setup.config.seed, self.round, owner, f"draws: {purpose}")

    def batches(self, purpose: str = "shuffle") -> list[Tensor]:
        """Return which training samples form this round's batches, all local epochs, in training order."""
        if self._drawn is None or self._drawn[0] != (self.round, purpose):
            config = self.setup.config
            order = batches(
                self.num_samples,
                config.batch_size,
                config.local_epochs,
                self.generator(purpose),
                smallest=self.setup.traits.smallest_batch,
            )
            self._drawn = (self.round, purpose), order
        return self._drawn[1]

    def samples(self, places_N: Tensor, number: int, shuffle: str = "shuffle") -> tuple[Nested, Nested]:
        """Return the samples, as they are trained on, and the targets of batch `number`.

        `shuffle` is the purpose that its order was drawn for.
        """
        drawn_for = "" if shuffle == "shuffle" else f" {shuffle}"
        generator = self.generator(f"augment {number}{drawn_for}")
        x, targets_N = self.training_data.batch(places_N, generator.initial_seed())
        return self.setup.task.prepare(x, generator), targets_N

    def send(self, receiver: int, mail: Mail) -> Envelope:
        """Return mail in an envelope with its arrival on the virtual clock, and count its bytes."""
        about, arrays = mail.pack()
        num_bytes = size_of(arrays)
        if receiver != self.id:
            self.bytes_sent += num_bytes
        return Envelope(
            sender=self.id,
            receiver=receiver,
            round=self.round,
            kind=mail.kind,
            about=about,
            arrays=arrays,
            arrives_s=self.clock.send(receiver, num_bytes),
        )

    def weights_sha256(self) -> str:
        """Return the digest of its float weights."""
        weights = (self.weights_P,)
        return self.setup.digests.get(weights, lambda: sha256_of(weights))

    def shared_sha256(self) -> str:
        """Return the digest of all that agents share after a round; see `agents.state`."""
        shared = tuple(self.tensors.shared().values())
        return self.setup.digests.get(shared, lambda: sha256_of(shared))

    def state_dict(self, *, between_rounds: bool = False) -> tuple[dict[str, Array], dict[str, Json]]:
        """Return all that must outlive a phase, or, between two rounds, a round: arrays and facts."""
        arrays, same = self.tensors.state_dict(
            between_rounds=between_rounds, with_return_point=self.ended_round < self.round
        )
        facts: dict[str, Json] = {
            "round": self.round,
            "ended_round": self.ended_round,
            "model_of": self.model_of,
            "same": same,
            "notes": {} if between_rounds else dict(self.notes),
            "measured": None if self.measured is None else self.measured.to_json(),
            "pairing_round": self.pairing.round,
            "pairing": [list(pair) for pair in self.pairing.pairs],
            "bytes_sent": self.bytes_sent,
            "now_s": self.clock.now_s,
            "uplink_free_s": self.clock.uplink_free_s,
            "spans": [[s.what, s.start_s, s.end_s, s.peer] for s in self.clock.spans or ()],
        }
        for part, paused in () if between_rounds else self.paused.items():
            arrays |= {f"{part}/{name}": tensor.numpy() for name, tensor in paused.state().items()}
        return arrays, facts

    def load_state_dict(self, arrays: Mapping[str, Array], facts: Mapping[str, Json]) -> None:
        """Take up what `state_dict` gave. Raises TypeError or KeyError where it is of another kind."""
        self.tensors.load_state_dict(arrays, read_table(facts["same"]))
        self.paused = {}
        self.round, self.bytes_sent = read_int(facts["round"]), read_int(facts["bytes_sent"])
        self.ended_round = read_int(facts["ended_round"])
        self.model_of = read_int(facts["model_of"])
        self.notes, measured = read_table(facts["notes"]), facts["measured"]
        self.measured = None if measured is None else Measured.from_json(measured)
        self.pairing = read_pairing(facts["pairing_round"], facts["pairing"])
        self.clock = self.new_clock()
        self.clock.now_s = read_float(facts["now_s"])
        self.clock.uplink_free_s = read_float(facts["uplink_free_s"])
        if self.clock.spans is not None:
            self.clock.spans = read_spans(facts["spans"])
