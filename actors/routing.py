"""What a channel knows of each replica: how much it has to do, and how it has answered lately."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from actors.parts import Attempt
from actors.replica import Replica

WRONG = 2
"""Wrong answers in a row after which a replica is to be replaced."""


class Routing:
    """The replica with the least outstanding tokens is asked; one that failed just now only if all did."""

    def __init__(self) -> None:
        self._weights: Counter[Replica] = Counter()
        self._dropped: list[Attempt] = []
        self._quiet_since: dict[Replica, float] = {}
        self._wrong: Counter[Replica] = Counter()
        self._avoid: dict[Replica, float] = {}

    def least(self, replicas: Sequence[Replica], now: float) -> Replica:
        """Whom to ask; the first of those with equally little to do."""
        return min(
            replicas, key=lambda replica: (now < self._avoid.get(replica, now), self._weights[replica])
        )

    def lighter(self, replicas: Iterable[Replica], slow: Replica, but: set[Replica]) -> list[Replica]:
        """Those with fewer unanswered tokens than the slow one, dropped questions counted, `but` these."""
        return [
            replica
            for replica in replicas
            if replica is not slow and replica not in but and self._weights[replica] < self._weights[slow]
        ]

    def sent(self, attempt: Attempt) -> None:
        """The replica has so much more to do."""
        if not self._weights[attempt.replica]:
            self._quiet_since[attempt.replica] = attempt.sent
        self._weights[attempt.replica] += attempt.weight

    def answered(self, attempt: Attempt) -> None:
        """An answer has arrived, of whatever worth."""
        self._weights[attempt.replica] -= attempt.weight
        self._quiet_since[attempt.replica] = attempt.arrived or attempt.sent

    def drop(self, attempt: Attempt) -> None:
        """Nobody waits for this any more; it keeps the replica busy all the same until it is answered."""
        attempt.pending.cancel()
        self._dropped.append(attempt)

    def silent_for(self, replica: Replica, now: float) -> float:
        """How long it has had work and answered nothing at all."""
        return now - self._quiet_since.get(replica, now)

    def trust(self, replica: Replica) -> None:
        """It has answered well."""
        self._wrong.pop(replica, None)
        self._avoid.pop(replica, None)

    def distrust(self, replica: Replica) -> bool:
        """It has answered wrong; true when that is no accident any more."""
        self._wrong[replica] += 1
        return self._wrong[replica] >= WRONG

    def avoid(self, replica: Replica, until: float) -> None:
        """Ask others first for a while."""
        self._avoid[replica] = until

    def tidy(self, stay: Iterable[Replica], live: Iterable[Attempt]) -> None:
        """Take back the weight of dropped questions that have been answered, and forget who has left."""
        for attempt in [attempt for attempt in self._dropped if attempt.arrived is not None]:
            self._dropped.remove(attempt)
            self.answered(attempt)
        if len(self._weights) <= 8 + 2 * len(keep := set(stay)):
            return
        keep.update(attempt.replica for attempt in [*self._dropped, *live])
        for kept in (self._weights, self._quiet_since, self._wrong, self._avoid):
            for replica in [replica for replica in kept if replica not in keep]:
                del kept[replica]
