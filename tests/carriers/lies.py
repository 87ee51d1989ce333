"""Lies: what one member says in place of the truth, one row for each kind of mail, field and false value.

A lie is a function from an envelope that the member is about to send to those that it sends in its place. It
begins with a round and is told as long as the member is there.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import numpy as np

from comdml_flwr.core.messages import Envelope

LIAR, NUM_AGENTS = 4, 5
FROM_ROUND = 2
HUGE = 10**30


@dataclass(frozen=True, kw_only=True)
class Lie:
    """One row.

    Parameters
    ----------
    kind : str
        Of the mail.
    what : str
        The field and its false value, in words.
    tell : Callable
        From an envelope, and what the liar remembers, to what it sends.
    method : str
        Of the run.
    liar : int
        Who tells it.
    is_possible : bool
        Whether no receiver can know better: a finite share that is not what was trained.
    """

    kind: str
    what: str
    tell: Callable[[Envelope, dict], Iterable[Envelope]]
    method: str = "allreduce"
    liar: int = LIAR
    is_possible: bool = False

    @property
    def name(self) -> str:
        """As tests and the table call it."""
        return f"{self.kind}: {self.what}"

    def begin(self, from_round=FROM_ROUND) -> Callable[[Envelope], Iterable[Envelope]]:
        """Return a liar that remembers nothing yet."""
        memory: dict = {}
        return lambda mail: self.tell(mail, memory) if mail.round >= from_round else (mail,)


@dataclass(frozen=True, slots=True)
class Liar:
    """A member that lies, as a fault of a history.

    Parameters
    ----------
    agent : int
        Who.
    lie : str
        The name of one of `LIES`.
    from_round : int
        Since when.
    """

    agent: int
    lie: str
    from_round: int = FROM_ROUND


def others(liar=LIAR):
    return [agent for agent in range(NUM_AGENTS) if agent != liar]


def about(mail, **facts):
    """Return an envelope with other facts."""
    return replace(mail, about={**mail.about, **facts})


def arrays(mail, **changed):
    """Return an envelope with other arrays."""
    return replace(mail, arrays={**mail.arrays, **changed})


def without(mail, name):
    """Return an envelope without a fact or an array."""
    return replace(
        mail,
        about={key: x for key, x in mail.about.items() if key != name},
        arrays={key: x for key, x in mail.arrays.items() if key != name},
    )


def control(mail, receiver, kind, facts, tensors=None):
    """Return an envelope of the protocol, out of the blue."""
    return Envelope(
        sender=mail.sender, receiver=receiver, round=mail.round, kind=kind, about=facts, arrays=tensors or {}
    )


def on(kind, change):
    """Tell a lie in each envelope of a kind."""
    return lambda mail, memory: (change(mail),) if mail.kind == kind else (mail,)


def in_marks(change, needs=None):
    """Tell a lie in each mark, or in each that has a field."""

    def tell(mail, memory):
        if mail.mark is None or (needs and needs not in mail.mark):
            return (mail,)
        return (replace(mail, mark={**mail.mark, **change(mail)}),)

    return tell


def silent(kind):
    """Send nothing of a kind, but the mark on it."""

    def tell(mail, memory):
        if mail.kind != kind:
            return (mail,)
        if mail.mark is None:
            return ()
        return (replace(mail, kind="phase done", about={}, arrays={}),)

    return tell


def besides(kind, more):
    """Send more behind each envelope of a kind."""
    return lambda mail, memory: (*more(mail), mail) if mail.kind == kind else (mail,)


def once(more):
    """Send something out of the blue, at the first envelope of each round."""

    def tell(mail, memory):
        if mail.round in memory:
            return (mail,)
        memory[mail.round] = True
        return (*more(mail), mail)

    return tell


def stall(forecast):
    """Forecast a time, and then be silent."""

    def tell(mail, memory):
        if mail.round > FROM_ROUND or memory.get("is silent"):
            return ()
        if mail.mark is not None and "training_s" in mail.mark:
            memory["last"] = memory.get("last", 0) + 1
            memory["is silent"] = memory["last"] == NUM_AGENTS - 1
            return (replace(mail, mark={**mail.mark, "training_s": forecast}),)
        return (mail,)

    return tell


def weights(change):
    return lambda mail: arrays(mail, weights=change(mail.arrays["weights"]))


def full(value):
    return weights(lambda array: np.full_like(array, value))


def profile(**facts):
    return lambda mail: about(mail, profile={**mail.about["profile"], **facts})


SPEED = "batches_per_s"
PROFILES = {
    "batches_per_s 0": profile(batches_per_s=0),
    "batches_per_s -1": profile(batches_per_s=-1.0),
    "batches_per_s NaN": profile(batches_per_s=math.nan),
    "batches_per_s infinity": profile(batches_per_s=math.inf),
    "batches_per_s 1e300": profile(batches_per_s=1e300),
    "batches_per_s 1e-300": profile(batches_per_s=1e-300),
    "batches_per_s a text": profile(batches_per_s="fast"),
    "num_batches 0": profile(num_batches=0),
    "num_batches 1e300": profile(num_batches=1e300),
    "num_batches one more": lambda mail: profile(num_batches=mail.about["profile"]["num_batches"] + 1)(mail),
    "memory_bytes -1": profile(memory_bytes=-1),
    "links to nobody": profile(links=[[99, 1e6, 0.0]]),
    "links NaN": profile(links=[[0, math.nan, 0.0]]),
    "links 1e308 bytes/s": profile(links=[[agent, 1e308, 0.0] for agent in range(4)]),
    "links 1e300 s": profile(links=[[agent, 1e6, 1e300] for agent in range(4)]),
    "links a short row": profile(links=[[0, 1.0]]),
    "agent another one": profile(agent=0),
    "profile a list": lambda mail: about(mail, profile=[1, 2]),
    "a field more": profile(more=1),
    "none": lambda mail: replace(mail, about={}),
}
BATCH = {
    "labels 100": lambda mail: arrays(mail, labels=np.full_like(mail.arrays["labels"], 100)),
    "labels -100": lambda mail: arrays(mail, labels=np.full_like(mail.arrays["labels"], -100)),
    "labels float32": lambda mail: arrays(mail, labels=mail.arrays["labels"].astype(np.float32)),
    "labels uint16": lambda mail: arrays(mail, labels=mail.arrays["labels"].astype(np.uint16)),
    "labels none": lambda mail: without(mail, "labels"),
    "labels two": lambda mail: arrays(without(mail, "labels"), **{"labels.0": mail.arrays["labels"]}),
    "activations narrow": lambda mail: arrays(mail, activations=mail.arrays["activations"][:, :1]),
    "activations fewer": lambda mail: arrays(mail, activations=mail.arrays["activations"][:1]),
    "activations flat": lambda mail: arrays(mail, activations=mail.arrays["activations"].reshape(-1)),
    "activations float64": lambda mail: arrays(
        mail, activations=mail.arrays["activations"].astype(np.float64)
    ),
    "activations none": lambda mail: without(mail, "activations"),
    "activations NaN": lambda mail: arrays(
        mail, activations=np.full_like(mail.arrays["activations"], np.nan)
    ),
    "num_samples 2^62": lambda mail: about(mail, num_samples=2**62),
    "num_samples -7": lambda mail: about(mail, num_samples=-7),
    "num_samples a text": lambda mail: about(mail, num_samples="7"),
    "batches_left 99": lambda mail: about(mail, batches_left=99),
    "batches_left -1": lambda mail: about(mail, batches_left=-1),
    "batches_left always 0": lambda mail: about(mail, batches_left=0),
    "digest another plan's": lambda mail: about(mail, digest="0" * 64),
    "digest a number": lambda mail: about(mail, digest=7),
}


def huge_batch(mail):
    return arrays(mail, activations=np.full_like(mail.arrays["activations"], 1e38))


CONTRIBUTIONS = {
    "num_samples 0": lambda mail: about(mail, num_samples=0),
    "num_samples -5": lambda mail: about(mail, num_samples=-5),
    "num_samples 2^62": lambda mail: about(mail, num_samples=2**62),
    "num_samples 10^30": lambda mail: about(mail, num_samples=HUGE),
    "num_samples true": lambda mail: about(mail, num_samples=True),
    "num_samples ten times": lambda mail: about(mail, num_samples=10 * mail.about["num_samples"]),
    "weights NaN": full(np.nan),
    "weights infinity": full(np.inf),
    "weights NaN for one shard": lambda mail: full(np.nan)(mail) if mail.receiver == 0 else mail,
    "weights short": weights(lambda array: array[:-1]),
    "weights empty": weights(lambda array: array[:0]),
    "weights float64": weights(lambda array: array.astype(np.float64)),
    "weights a matrix": weights(lambda array: array.reshape(1, -1)),
    "weights none": lambda mail: without(mail, "weights"),
    "start -3": lambda mail: about(mail, start=-3),
    "start 10^30": lambda mail: about(mail, start=HUGE),
    "agent nobody": lambda mail: about(mail, agent=999),
    "agent 10^30": lambda mail: about(mail, agent=HUGE),
}
FINITE = {
    "weights 1e30": full(1e30),
    "weights -10 times": weights(lambda array: -10 * array),
    "weights zero": full(0.0),
}
AVERAGES = {
    "weights NaN": full(np.nan),
    "weights NaN for one": lambda mail: full(np.nan)(mail) if mail.receiver == 1 else mail,
    "weights short": weights(lambda array: array[:-1]),
    "weights float64": weights(lambda array: array.astype(np.float64)),
    "weights none": lambda mail: without(mail, "weights"),
    "weights others for each": lambda mail: weights(lambda array: array + np.float32(mail.receiver))(mail),
    "weights others for one": lambda mail: weights(lambda array: array + np.float32(mail.receiver == 1))(
        mail
    ),
    "weights others for two": lambda mail: weights(lambda array: array + np.float32(mail.receiver in (1, 2)))(
        mail
    ),
    "start 0": lambda mail: about(mail, start=0),
    "start -1": lambda mail: about(mail, start=-1),
}
HEADS = {
    "weights NaN": full(np.nan),
    "weights short": weights(lambda array: array[:-1]),
    "num_samples 0": lambda mail: about(mail, num_samples=0),
    "num_samples -5": lambda mail: about(mail, num_samples=-5),
}
ARRIVALS = {"1e300": 1e300, "infinity": math.inf, "NaN": math.nan, "-1": -1.0}
MARKS = {
    "digest false": ("digest", lambda mail: {"digest": "0" * 64}),
    "digest another for each": ("digest", lambda mail: {"digest": str(mail.receiver) * 64}),
    "digest a number": ("digest", lambda mail: {"digest": 7}),
    "digest false for one": ("digest", lambda mail: {"digest": "0" * 64} if mail.receiver == 1 else {}),
    "training_s a text": ("training_s", lambda mail: {"training_s": "x"}),
    "training_s NaN": ("training_s", lambda mail: {"training_s": math.nan}),
    "training_s -1": ("training_s", lambda mail: {"training_s": -1.0}),
    "accusations of all, in their names": (
        None,
        lambda mail: {"accusations": [[mail.round, a, (a + 1) % 4] for a in range(4)]},
    ),
    "accusations of all, in the name of one": (
        None,
        lambda mail: {"accusations": [[mail.round, 0, a] for a in (1, 2, 3)]},
    ),
    "accusations of all, in its own name": (
        None,
        lambda mail: {"accusations": [[mail.round, mail.sender, a] for a in range(4)]},
    ),
    "accusations of nobody": (None, lambda mail: {"accusations": [[mail.round, 77, 99]]}),
    "accusations a text": (None, lambda mail: {"accusations": "all"}),
    "gone all": (None, lambda mail: {"gone": [0, 1, 2, 3]}),
    "gone nobody": (None, lambda mail: {"gone": [HUGE]}),
    "phase 999": (None, lambda mail: {"phase": 999}),
    "phase -1": (None, lambda mail: {"phase": -1}),
    "phase always the last": (None, lambda mail: {"phase": 3}),
    "phase a text": (None, lambda mail: {"phase": "3"}),
    "sums a text": ("sums", lambda mail: {"sums": {"correct": "x"}}),
    "sums 10^30": ("sums", lambda mail: {"sums": {"correct": HUGE, "loss_sum": 0.0, "num_evaluated": HUGE}}),
    "sums NaN": (
        "sums",
        lambda mail: {"sums": {"correct": math.nan, "loss_sum": math.nan, "num_evaluated": -1}},
    ),
    "sums of too many samples": (
        "sums",
        lambda mail: {"sums": {"correct": 9, "loss_sum": 1.0, "num_evaluated": 9}},
    ),
    "sums of no sample": ("sums", lambda mail: {"sums": {**mail.mark["sums"], "num_evaluated": 0}}),
    "sums with a negative loss": ("sums", lambda mail: {"sums": {**mail.mark["sums"], "loss_sum": -1e300}}),
    "sums none": ("sums", lambda mail: {"sums": {}}),
    "joining somebody who is there": ("joining", lambda mail: {"joining": [[0, 7]]}),
    "joining nobody": ("joining", lambda mail: {"joining": [[99, 7]]}),
    "admissions false": ("admissions", lambda mail: {"admissions": [[0, 99]]}),
    "none of its fields": (None, lambda mail: {"phase": None, "gone": None}),
    "none of its fields, for one": (
        None,
        lambda mail: {"phase": None, "gone": None} if mail.receiver == 1 else {},
    ),
}


def under_others_ids(mail):
    return [about(mail, agent=agent) for agent in range(NUM_AGENTS) if agent != mail.sender]


def phantoms(mail):
    zeros = np.zeros_like(mail.arrays["weights"])
    return [arrays(about(mail, agent=1000 + n, num_samples=10**6), weights=zeros) for n in range(3)]


def to_all(kind, facts, tensors=None):
    return once(
        lambda mail: [control(mail, peer, kind, facts(mail, peer), tensors) for peer in others(mail.sender)]
    )


ZEROS = {"weights": np.zeros(100, np.float32)}


def zero_models(kind, length=None):
    """Send models of zeros that nobody has asked for, of the right length."""

    def tell(mail, memory):
        if "weights" in mail.arrays and "sent" not in memory:
            memory["sent"] = True
        if mail.mark is None or mail.mark.get("phase") != 0:
            return (mail,)
        model = {"weights": np.zeros(NUM_FLOATS if length is None else length, np.float32)}
        return (control(mail, mail.receiver, kind, {}, model), mail)

    return tell


NUM_FLOATS = 108  # of the tiny network: 16 * 4 + 4, 4 * 4 + 4, 4 * 4 + 4
CONTROL = {
    "committed: without two": to_all(
        "committed", lambda mail, peer: {"round": mail.round, "gone": [1, 2], "joining": [], "digest": "x"}
    ),
    "committed: without nobody": to_all(
        "committed", lambda mail, peer: {"round": mail.round, "gone": [], "joining": [], "digest": "x"}
    ),
    "committed: without the receiver": to_all(
        "committed", lambda mail, peer: {"round": mail.round, "gone": [peer], "joining": [], "digest": "x"}
    ),
    "committed: round 10^30": to_all(
        "committed", lambda mail, peer: {"round": HUGE, "gone": [], "joining": []}
    ),
    "committed: the run ends": to_all(
        "committed", lambda mail, peer: {"round": mail.round, "gone": [], "joining": [], "ends_run": True}
    ),
    "committed: nothing": to_all("committed", lambda mail, peer: {}),
    "join: though it is there": to_all("join", lambda mail, peer: {"request": 7}),
    "join: 10^30": to_all("join", lambda mail, peer: {"request": HUGE}),
    "join: another request for each": to_all("join", lambda mail, peer: {"request": peer}),
    "gone: all in the name of one": to_all(
        "gone", lambda mail, peer: {"accusations": [[mail.round, 0, a] for a in (1, 2, 3)]}
    ),
    "gone: one, in the name of another one that does not hear of it": once(
        lambda mail: [
            control(mail, peer, "gone", {"accusations": [[mail.round, 0, 1]]})
            for peer in others(mail.sender)
            if peer
        ]
    ),
    "gone: all in their names": to_all(
        "gone", lambda mail, peer: {"accusations": [[mail.round, a, (a + 1) % 4] for a in range(4)]}
    ),
    "gone: all in its own name": to_all(
        "gone", lambda mail, peer: {"accusations": [[mail.round, mail.sender, a] for a in range(4)]}
    ),
    "gone: another one for each": to_all(
        "gone", lambda mail, peer: {"accusations": [[mail.round, mail.sender, (peer + 1) % 4]]}
    ),
    "gone: one, in its own name": to_all(
        "gone", lambda mail, peer: {"accusations": [[mail.round, mail.sender, 2]]}
    ),
    "gone: round 10^30": to_all("gone", lambda mail, peer: {"accusations": [[HUGE, mail.sender, 0]]}),
    "gone: itself": to_all(
        "gone", lambda mail, peer: {"accusations": [[mail.round, mail.sender, mail.sender]]}
    ),
    "waiting: for nobody": to_all("waiting", lambda mail, peer: {"awaited": 99, "for_s": 1.0}),
    "waiting: NaN": to_all("waiting", lambda mail, peer: {"awaited": 0, "for_s": math.nan}),
    "waiting: 1e300 s": to_all("waiting", lambda mail, peer: {"awaited": 0, "for_s": 1e300}),
    "admitted: zeros": zero_models("admitted"),
    "admitted: nobody asked": to_all(
        "admitted", lambda mail, peer: {"next_round": HUGE, "gone": [], "admissions": []}, ZEROS
    ),
    "want model: round 10^30": to_all("want model", lambda mail, peer: {"round": HUGE}),
    "want commit: round 10^30": to_all("want commit", lambda mail, peer: {"round": HUGE}),
    "want commit: round -1": to_all("want commit", lambda mail, peer: {"round": -1}),
    "current model: zeros that nobody wants": zero_models("current model"),
    "model: zeros that nobody wants": zero_models("model"),
    "model: short, and nobody wants it": zero_models("model", 3),
    "bla: a kind that there is not": to_all("bla", lambda mail, peer: {"x": 1}, ZEROS),
}


SILENT_TO_ONE = frozenset({"any mail: none for one", "mark: none of its fields, for one"})
"""Nobody else can tell which of the two does not hear the other: each goes in turn."""


def waits_for_ever(mail, memory):
    """Say with each envelope that it waits, and never end a phase."""
    waiting = [
        control(mail, peer, "waiting", {"awaited": (peer + 1) % 4, "for_s": 50.0})
        for peer in others(mail.sender)
    ]
    return waiting


def silent_to(receiver):
    """Send one agent nothing."""
    return lambda mail, memory: () if mail.receiver == receiver else (mail,)


def _rows():
    for kind, table, method, liar in (
        ("profile", PROFILES, "comdml", LIAR),
        ("activations", BATCH, "comdml", LIAR),
        ("contribution", CONTRIBUTIONS, "allreduce", LIAR),
        ("average", AVERAGES, "allreduce", LIAR),
        ("average", AVERAGES, "allreduce", 0),
        ("aux head", HEADS, "comdml", LIAR),
    ):
        for what, change in table.items():
            by = "" if liar == LIAR else f", by agent {liar}"
            yield Lie(kind=kind, what=what + by, tell=on(kind, change), method=method, liar=liar)
    yield Lie(
        kind="activations",
        what="activations 1e38",
        tell=on("activations", huge_batch),
        method="comdml",
        is_possible=True,
    )
    for what, change in FINITE.items():
        for kind in ("contribution", "average"):
            yield Lie(kind=kind, what=what, tell=on(kind, change), is_possible=True)
    for kind, method in (
        ("profile", "comdml"),
        ("activations", "comdml"),
        ("contribution", "allreduce"),
        ("average", "allreduce"),
    ):
        yield Lie(kind=kind, what="not sent", tell=silent(kind), method=method)
    yield Lie(
        kind="profile",
        what="another one for each",
        tell=on("profile", lambda mail: profile(batches_per_s=1.0 + mail.receiver)(mail)),
        method="comdml",
    )
    yield Lie(kind="contribution", what="under others' ids", tell=besides("contribution", under_others_ids))
    yield Lie(
        kind="contribution",
        what="under others' ids, by a helper",
        tell=besides("contribution", under_others_ids),
        method="comdml",
        liar=0,
    )
    yield Lie(kind="contribution", what="of agents that are none", tell=besides("contribution", phantoms))
    yield Lie(kind="contribution", what="twice", tell=besides("contribution", lambda mail: [mail]))
    yield Lie(
        kind="withdraw",
        what="all others",
        tell=besides(
            "contribution",
            lambda mail: [
                control(mail, mail.receiver, "withdraw", {"agent": agent}) for agent in others(mail.sender)
            ],
        ),
    )
    yield Lie(
        kind="withdraw",
        what="agent 10^30",
        tell=besides(
            "contribution", lambda mail: [control(mail, mail.receiver, "withdraw", {"agent": HUGE})]
        ),
    )
    yield Lie(
        kind="average",
        what="twice",
        tell=besides("average", lambda mail: [full(7.0)(mail)]),
        is_possible=True,
    )
    yield Lie(
        kind="average",
        what="one more, of another shard",
        tell=besides("average", lambda mail: [about(mail, start=0)]),
    )
    for what, arrives_s in ARRIVALS.items():
        for method in ("allreduce", "comdml"):
            tell = lambda mail, memory, arrives_s=arrives_s: (replace(mail, arrives_s=arrives_s),)  # noqa: E731
            yield Lie(kind="any mail", what=f"arrives_s {what}, {method}", tell=tell, method=method)
    for what, (needs, change) in MARKS.items():
        yield Lie(kind="mark", what=what, tell=in_marks(change, needs))
    for name, tell in CONTROL.items():
        kind, what = name.split(": ", 1)
        yield Lie(kind=kind, what=what, tell=tell)
    for forecast in (0.05, 600.0, 1e300, math.inf):
        yield Lie(kind="mark", what=f"training_s {forecast:g}, then silence", tell=stall(forecast))
    yield Lie(kind="waiting", what="again and again", tell=waits_for_ever)
    yield Lie(kind="any mail", what="none for one", tell=silent_to(1))
    yield Lie(kind="any mail", what="none", tell=lambda mail, memory: ())


LIES = tuple(_rows())
