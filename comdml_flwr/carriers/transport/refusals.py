"""What was refused, counted by reason and peer, and logged once for each."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping

from comdml_flwr.core.errors import RefusedError

log = logging.getLogger(__name__)


class Refusals:
    """Counts refused streams and envelopes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[tuple[str, int | None]] = Counter()

    def add(self, refused: RefusedError, peer: int | None) -> None:
        """Count one; `peer` is None where nobody is known to have sent it."""
        with self._lock:
            self._counts[refused.reason, peer] += 1
            is_first = self._counts[refused.reason, peer] == 1
        if is_first:
            who = "somebody" if peer is None else f"agent {peer}"
            log.warning("refused mail of %s: %s (more of this kind is counted only)", who, refused)

    @property
    def counts(self) -> Mapping[tuple[str, int | None], int]:
        """How many, by reason and peer."""
        with self._lock:
            return dict(self._counts)

    @property
    def by_reason(self) -> Mapping[str, int]:
        """How many, by reason."""
        totals: Counter[str] = Counter()
        for (reason, _), count in self.counts.items():
            totals[reason] += count
        return dict(totals)
