"""What every store of signals does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from tutelage.signals.packet import Packet


class SignalStore(Protocol):
    """Signals of one teacher and one payload spec, by example digest (16 bytes). For one thread."""

    def missing(self, digests: Sequence[bytes]) -> list[int]:
        """Positions in `digests` of the examples that are not held; an example that stands twice, twice."""
        ...

    def get(self, digests: Sequence[bytes]) -> Packet | None:
        """The signals in the order asked, as a copy; None when any is missing.

        A row that was held may turn out damaged when it is read. Then the answer is None, and `missing`
        names the row from there on.
        """
        ...

    def put(self, digests: Sequence[bytes], packet: Packet) -> int:
        """Keep one row for each example; how many were new. A row that is already there stays as it is."""
        ...

    def flush(self) -> None:
        """Make what was put readable for others, and safe from a crash."""

    def refresh(self) -> None:
        """See what other writers have flushed."""
