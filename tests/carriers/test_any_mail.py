"""Whatever one member sends, if it is an envelope, ends no honest agent and makes none wait for ever."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from comdml_flwr.carriers.direct.protocol import Mark
from comdml_flwr.core.mail import Mail
from comdml_flwr.core.messages import Envelope
from tests.carriers.lies import LIAR, NUM_AGENTS, Lie, others
from tests.carriers.lying import run_with

IDS = st.integers(-1, NUM_AGENTS)
NUMBERS = st.one_of(
    st.integers(-2, 40), st.sampled_from([2**31, 2**63, -(2**70), 10**30]), st.floats(), st.booleans()
)
SOME_NUMBERS = [1, 12, 0]


def kinds(base=Mail):
    """Return every kind of mail of methods and of the peers' protocol."""
    found = []
    for kind in base.__subclasses__():
        found += [kind, *kinds(kind)] if kind.__module__.startswith("comdml_flwr") else []
    return found


def values():
    """Return what facts may hold: what they should, and all else that JSON has."""
    plain = st.one_of(st.none(), NUMBERS, IDS, st.text(max_size=4))
    rows = st.one_of(
        st.lists(IDS, max_size=5),
        st.lists(st.lists(st.one_of(IDS, NUMBERS), min_size=2, max_size=3), max_size=4),
    )
    table = st.dictionaries(st.sampled_from(["agent", "correct", "links", "num_batches"]), plain, max_size=3)
    return st.one_of(plain, rows, table, st.dictionaries(st.text(max_size=3), rows, max_size=2))


def tensors():
    """Return arrays as a message may hold them, with the odd number."""
    dtype = st.sampled_from([np.float32, np.float32, np.float64, np.int64, np.uint16, np.bool_])
    shape = st.one_of(
        st.sampled_from([(108,), (21,), (22,), (6, 4), (6,)]), arrays_of.array_shapes(max_dims=3, max_side=7)
    )
    return dtype.flatmap(lambda one: arrays_of.arrays(one, shape))


@st.composite
def sent(draw):
    """Return an envelope, but for its round and sender."""
    kind = draw(st.sampled_from(sorted(kinds(), key=lambda one: (one.kind, one.__name__))))
    names = [field.name for field in fields(kind)]
    about = {name: draw(values()) for name in names if draw(st.booleans())}
    array_names = draw(
        st.lists(st.sampled_from(["weights", "activations", "labels", "labels.0"]), max_size=2)
    )
    marks = [field.name for field in fields(Mark)]
    mark = {name: draw(values()) for name in marks if draw(st.booleans())} if draw(st.booleans()) else None
    return Envelope(
        sender=LIAR,
        receiver=draw(st.sampled_from(others())),
        round=0,
        kind=kind.kind,
        about=about,
        arrays={name: draw(tensors()) for name in array_names},
        arrives_s=draw(st.one_of(st.just(0.0), st.floats())),
        mark=mark,
    )


@st.composite
def changed(draw):
    """Return changes of a true envelope: some of its facts, of its mark and of its arrays."""
    return draw(st.integers(0, 2**32 - 1)), draw(values()), draw(tensors())


def with_change(mail, change):
    """Return an envelope with one of its parts replaced."""
    place, value, array = change
    parts = [*(("about", name) for name in mail.about), *(("arrays", name) for name in mail.arrays)]
    parts += [("mark", name) for name in mail.mark or ()] + [("arrives_s", "")]
    where, name = parts[place % len(parts)]
    if where == "arrives_s":
        return replace(mail, arrives_s=float(value) if isinstance(value, float) else -1.0)
    new = array if where == "arrays" else value
    return replace(mail, **{where: {**(getattr(mail, where) or {}), name: new}})


def telling(plan):
    """Return a lie that does at the n-th envelope what a plan says: one more, or a change."""

    def tell(mail, memory):
        memory["n"] = memory.get("n", -1) + 1
        what = plan.get(memory["n"])
        if isinstance(what, Envelope):
            return (replace(what, round=mail.round), mail)
        return (mail,) if what is None else (with_change(mail, what),)

    return tell


PLANS = st.dictionaries(st.integers(0, 90), st.one_of(sent(), changed(), changed()), min_size=1, max_size=12)


def holds(plan, method):
    found = run_with(Lie(kind="any", what="any", tell=telling(plan), method=method))
    assert found.dead == {}
    assert not found.hangs
    assert found.differ == 0


@settings(max_examples=20)
@given(plan=PLANS, method=st.sampled_from(["comdml", "allreduce"]))
def test_any_mail_of_one_member_ends_no_honest_agent(plan, method):
    holds(plan, method)


@pytest.mark.slow
@settings(max_examples=600)
@given(plan=PLANS, method=st.sampled_from(["comdml", "allreduce"]))
def test_any_mail_of_one_member_ends_no_honest_agent_at_length(plan, method):
    holds(plan, method)
