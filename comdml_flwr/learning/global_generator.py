"""PyTorch's global random generators, lent to one user at a time: seeded, then put back as they were.

Dropout and other layers that draw take no generator of their own: they draw from the process's global one,
and on a GPU from that GPU's. So do most initialisations. For such a draw to depend on the run's seed alone,
and not on what else this process has drawn, whoever runs that code seeds the generators first and puts them
back afterwards. Agents of one process may train side by side in threads, hence the lock: a model that draws
runs forward in one thread at a time.

Not covered: what a layer draws from NumPy's or Python's own global generator, and while it runs backward.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

_LENT = threading.RLock()


@contextmanager
def global_generator(
    seed: int | None, generators: Sequence[torch.Generator] = (torch.default_generator,)
) -> Iterator[None]:
    """Seed the global generators for what runs inside, and put them back; with None, do nothing.

    Parameters
    ----------
    seed : int or None
        None: what runs inside draws nothing.
    generators : Sequence[torch.Generator]
        Which ones: those of a `Device`; by default the CPU's.

    Examples
    --------
    >>> with global_generator(1):
    ...     one = torch.rand(3)
    >>> with global_generator(1):
    ...     other = torch.rand(3)
    >>> torch.equal(one, other)
    True
    """
    if seed is None:
        yield
        return
    with _LENT:
        states = [generator.get_state() for generator in generators]
        for generator in generators:
            generator.manual_seed(seed)
        try:
            yield
        finally:
            for generator, state in zip(generators, states, strict=True):
                generator.set_state(state)


def has_drawn(seed: int) -> bool:
    """Tell, inside of `global_generator(seed)`, whether anything was drawn from it."""
    fresh = torch.Generator().manual_seed(seed)
    return not torch.equal(torch.default_generator.get_state(), fresh.get_state())
