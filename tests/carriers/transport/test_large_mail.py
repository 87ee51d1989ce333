"""Mail as long as a large model is delivered; what is longer than a run can need is not taken."""

from contextlib import closing

import grpc
import pytest

from comdml_flwr.carriers.transport.channels import new_channel
from comdml_flwr.carriers.transport.incoming import METHOD, RECEIVER, RUN, SENDER, SERVICE
from comdml_flwr.carriers.transport.members import Limits
from comdml_flwr.core.errors import RunError
from tests.carriers.transport import fuzz
from tests.carriers.transport.meetings import TOKEN, addresses, mail, meeting, received


def test_what_no_member_takes_is_not_sent():
    """Its sender is told; its receiver is not given up for it."""
    with meeting(addresses(2), limits=Limits(max_envelope_bytes=5000)) as (one, two):
        with pytest.raises(RunError, match=r"^test: 8\d+ bytes are too long; the members .* 5000$"):
            one.send(mail(0, 1, num_bytes=8000))
        one.send(mail(0, 1, num_bytes=4000))
        one.flush(5)
        received(two, 1)
        assert (one.gone, two.refused) == ({}, {})


def test_an_envelope_for_which_there_is_no_memory_is_refused():
    """A petabyte: so much can be declared where the bound allows it."""
    lie = Limits(max_envelope_bytes=1 << 60)
    with meeting(addresses(2), limits=lie, who={1}) as (two,):
        with closing(new_channel(two._members[1], None, lie)) as channel:
            call = channel.stream_stream(f"/{SERVICE}/{METHOD}")
            answers = call(
                iter([fuzz.HEAD.pack(b"CmF1", 1, 1 << 50)]),
                metadata=((RUN, TOKEN), (SENDER, "0"), (RECEIVER, "1")),
                timeout=10,
            )
            with pytest.raises(grpc.RpcError, match="oversized: no memory for an envelope of"):
                list(answers)
        assert two.refused == {("oversized", 0): 1}


@pytest.mark.slow
def test_an_envelope_of_more_than_a_gibibyte_is_delivered():
    """As a shard of a large model, or the model itself, for one that was absent."""
    num_bytes = 11 * (1 << 30) // 10
    with meeting(addresses(2), limits=Limits(patience_s=20)) as (one, two):
        one.send(mail(0, 1, num_bytes=num_bytes, value=3), 60)
        (envelope,) = received(two, 1, timeout_s=120)
        one.flush(60)
        assert envelope.num_bytes == num_bytes // 4 * 4
        assert (envelope.arrays["x"][0], envelope.arrays["x"][-1]) == (3, 3)
        assert (one.gone, two.refused) == ({}, {})
