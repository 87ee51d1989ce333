"""How fast envelopes are sealed and opened: `python -m tests.benchmarks.sealing`."""

import os
import statistics
import time

from comdml_flwr.carriers.sealed.sealing import Sealer, new_private_key, public_key_of

NUM_BYTES = 100_000_000
NUM_LETTERS = 9


def measure(num_bytes: int = NUM_BYTES, num_letters: int = NUM_LETTERS) -> tuple[float, float]:
    """Return the median speeds of sealing and of opening, in bytes/s."""
    private_keys = {agent: new_private_key() for agent in (0, 1)}
    table = {agent: public_key_of(key) for agent, key in private_keys.items()}

    def sealer(agent: int, exchange: int) -> Sealer:
        return Sealer(
            run="benchmark",
            agent=agent,
            private_key=private_keys[agent],
            public_keys=table,
            exchange=exchange,
            since=exchange - 1,
        )

    blob = os.urandom(num_bytes)
    sealing_s, opening_s = [], []
    for exchange in range(1, num_letters + 1):
        sender, receiver = sealer(0, exchange), sealer(1, exchange + 1)
        began = time.perf_counter()
        envelope = sender.seal(1, blob)
        sealed = time.perf_counter()
        receiver.unseal(envelope)
        opening_s.append(time.perf_counter() - sealed)
        sealing_s.append(sealed - began)
    return num_bytes / statistics.median(sealing_s), num_bytes / statistics.median(opening_s)


if __name__ == "__main__":
    seal, unseal = measure()
    print(f"seal {seal / 1e6:.0f} MB/s, open {unseal / 1e6:.0f} MB/s, envelopes of {NUM_BYTES / 1e6:.0f} MB")
