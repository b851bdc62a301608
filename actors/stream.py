"""The stream of signals: looks ahead, asks the teachers, and hands each batch over in order.

At most `window` batches are on their way, so memory does not grow with the data. An example whose signals
are in the store, or already on their way, is not asked for. Batches leave in the order in which they
came, each once, whatever the replicas do.

Shapes: B batch.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from actors.channel import TeacherChannel
from actors.parts import Question
from tutelage.config.runtime import StreamConfig
from tutelage.data.examples import Batch
from tutelage.errors import StoreError
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Packet
from tutelage.signals.spec import PayloadSpec
from tutelage.signals.store import SignalStore

Ask = Callable[[Batch, PayloadSpec], Request]
"""How a batch becomes a question to one teacher."""

Pair = tuple[Batch, list[Packet | None]]
"""A batch with the signals of each teacher; None for one that is lost."""


@dataclass
class _Slot:
    batch: Batch
    asked: dict[str, Question] = field(default_factory=dict)


class SignalStream:
    """Pairs each batch with the signals of all teachers."""

    def __init__(
        self, channels: list[TeacherChannel], stores: dict[str, SignalStore], config: StreamConfig, ask: Ask
    ) -> None:
        self.channels = channels
        self._stores = stores
        self._window = config.window
        self._ask = ask
        self._flying: dict[str, set[bytes]] = {channel.name: set() for channel in channels}
        self.waited_s = 0.0
        """Time the student waited for teachers."""

    def pair(self, batches: Iterable[Batch]) -> Iterator[Pair]:
        """Each batch with its packets, in the order of the channels."""
        ahead: deque[_Slot] = deque()
        for batch in batches:
            ahead.append(self._begin(batch))
            if len(ahead) >= self._window:
                yield self._finish(ahead.popleft())
        while ahead:
            yield self._finish(ahead.popleft())

    def flush(self) -> None:
        """Make all signals so far safe."""
        for store in self._stores.values():
            store.flush()

    def refresh(self) -> None:
        """See the signals that other workers have flushed."""
        for store in self._stores.values():
            store.refresh()

    def _begin(self, batch: Batch) -> _Slot:
        slot = _Slot(batch)
        for channel in self.channels:
            flying = self._flying[channel.name]
            missing = (
                list(range(len(batch.digests))) if batch.fresh else self._missing(channel, batch.digests)
            )
            channel.counters.cached += len(batch.digests) - len(missing)
            if missing:
                slot.asked[channel.name] = channel.ask(self._request(batch, channel, missing))
                flying.update(batch.digests[n] for n in missing)
        return slot

    def _missing(self, channel: TeacherChannel, digests: Sequence[bytes]) -> list[int]:
        """The first place of each example that is neither in the store nor on its way."""
        flying = self._flying[channel.name]
        first: dict[bytes, int] = {}
        for n in self._stores[channel.name].missing(digests):
            if digests[n] not in flying:
                first.setdefault(digests[n], n)
        return list(first.values())

    def _request(self, batch: Batch, channel: TeacherChannel, which: list[int]) -> Request:
        request = self._ask(batch, channel.spec)
        return request if len(which) == len(batch.digests) else request.select(which)

    def _finish(self, slot: _Slot) -> Pair:
        begin = time.perf_counter()
        packets = [self._collect(slot, channel) for channel in self.channels]
        self.waited_s += time.perf_counter() - begin
        return slot.batch, packets

    def _collect(self, slot: _Slot, channel: TeacherChannel) -> Packet | None:
        """What the store holds once the answer is in: a cold and a warm run then hear the same.

        A text that was scored before beside other texts may differ from the store in its last bit.
        """
        store, digests = self._stores[channel.name], slot.batch.digests
        question = slot.asked.pop(channel.name, None)
        for _ in range(3):
            if question is not None:
                packet = channel.take(question)
                self._flying[channel.name].difference_update(question.request.examples)
                if packet is None or slot.batch.fresh:
                    return packet
                if store.put(question.request.examples, packet) == len(digests):
                    return packet  # all rows are new, so the store holds just this
            found = store.get(digests)
            if found is not None:
                return found
            # A row was evicted or found damaged since the look ahead, or an earlier question was lost.
            question = channel.ask(self._request(slot.batch, channel, self._missing(channel, digests)))
        raise StoreError(
            f"the signal store of '{channel.name}' does not keep what it is given",
            fix="look at its disk; `tutelage signals verify` names damaged files",
        )
