"""Mail: an inbox does not depend on who was quicker, and letters stay closed."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from comdml_flwr.core.messages import Envelope, Mailboxes

LAW = settings(max_examples=200)
AGENTS = range(4)


class Letter:
    """Mail that shows its address and complains if anything else is looked at, compared or opened."""

    __slots__ = ("name", "receiver", "sender")
    __hash__ = None

    def __init__(self, sender, receiver, name):
        self.sender, self.receiver, self.name = sender, receiver, name

    def __getattribute__(self, name):
        assert name in ("sender", "receiver"), f"the post office looked at {name}"
        return object.__getattribute__(self, name)

    def __eq__(self, other):
        raise AssertionError("the post office compared letters")


def names(letters):
    return [object.__getattribute__(letter, "name") for letter in letters]


@st.composite
def mail_in_two_orders(draw):
    """One exchange's mail as it may come in twice: each sender's own in order, the senders mixed anyhow."""
    addresses = draw(st.lists(st.tuples(st.sampled_from(AGENTS), st.sampled_from(AGENTS)), max_size=12))
    letters = [Letter(sender, receiver, number) for number, (sender, receiver) in enumerate(addresses)]
    turns = [draw(st.permutations([sender for sender, _ in addresses])) for _ in range(2)]
    return [_deliver(letters, senders) for senders in turns]


def _deliver(letters, senders):
    queues = {sender: [letter for letter in letters if letter.sender == sender] for sender in AGENTS}
    return [queues[sender].pop(0) for sender in senders]


@LAW
@given(mail_in_two_orders())
def test_an_inbox_does_not_depend_on_the_order_in_which_the_senders_mail_comes_in(orders):
    inboxes = []
    for mail in orders:
        boxes = Mailboxes()
        boxes.put(mail)
        inboxes.append([names(boxes.take(receiver)) for receiver in AGENTS])
    assert inboxes[0] == inboxes[1]


@LAW
@given(mail_in_two_orders())
def test_nothing_is_lost_and_a_senders_own_order_is_kept(orders):
    mail = orders[0]
    boxes = Mailboxes()
    boxes.put(iter(mail))
    for receiver in AGENTS:
        inbox = boxes.take(receiver)
        assert [letter.sender for letter in inbox] == sorted(letter.sender for letter in inbox)
        for sender in AGENTS:
            sent = names(x for x in mail if x.sender == sender and x.receiver == receiver)
            assert names(x for x in inbox if x.sender == sender) == sent


def test_take_empties_the_box_of_the_receiver_and_no_other():
    boxes = Mailboxes()
    boxes.put([Letter(0, 1, "to 1"), Letter(0, 2, "to 2")])
    assert names(boxes.take(1)) == ["to 1"]
    assert boxes.take(1) == ()
    assert names(boxes.take(2)) == ["to 2"]
    assert boxes.take(7) == ()


def test_mail_that_waits_comes_before_the_mail_of_a_later_exchange():
    boxes = Mailboxes()
    boxes.put([Letter(3, 0, "first exchange")])
    boxes.put([Letter(1, 0, "second exchange"), Letter(0, 0, "second exchange, to myself")])
    assert names(boxes.take(0)) == ["first exchange", "second exchange, to myself", "second exchange"]


def envelope(about=None, arrays=None):
    return Envelope(sender=3, receiver=4, round=7, kind="aux head", about=about or {}, arrays=arrays or {})


def test_num_bytes_counts_the_arrays_and_not_the_facts():
    arrays = {"activations": np.zeros((5, 2), np.float32), "labels": np.zeros(5, np.int64)}
    assert envelope({"digest": "x" * 1000}, arrays).num_bytes == 5 * 2 * 4 + 5 * 8
    assert envelope({"digest": "x" * 1000}).num_bytes == 0
    assert envelope(arrays={"empty": np.zeros((0, 3))}).num_bytes == 0
