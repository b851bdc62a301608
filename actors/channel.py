"""One teacher as a student worker sees it: whom to ask, whom to trust, when to give up.

A question is cut into parts by its tokens. A part goes to the replica with the least outstanding tokens. A
slow one is also asked of a second replica: the first good answer counts, the other is dropped unseen. A
fault (lost, late, wrong) moves the part to another replica, until the retries are used up. What every
replica would say is told at once: an exception that is about the question by its nature, or the same fault
from a second replica.

Shapes: N examples of a request, V vocabulary, H hidden.
"""

from __future__ import annotations

import os
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from actors.absence import Absence
from actors.clock import Clock, SystemClock
from actors.counters import TeacherCounters
from actors.members import FixedMembers, Members, Roster
from actors.pace import Pace
from actors.parts import Attempt, Part, Question, cut
from actors.reasons import LOST_FIX, SAME_FIX
from actors.replica import Replica, ReplicaAwayError, ReplicaFailedError, ReplicaLostError, failed
from actors.routing import Routing
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Packet, join
from tutelage.signals.payloads import fault
from tutelage.signals.payloads.integrity import head_fault
from tutelage.signals.spec import PayloadSpec

HEARTBEAT_S = 0.1
"""Time between two looks at what nothing announces, such as a replica that joins."""
SHORTEST_S = 1e-3


class TeacherChannel:
    """The replicas of one teacher, asked by one thread. `members` may be a list of replicas."""

    def __init__(
        self,
        name: str,
        members: Members | Sequence[Replica],
        spec: PayloadSpec,
        config: StreamConfig,
        clock: Clock | None = None,
    ) -> None:
        self.name = name
        self.spec = spec
        self.counters = TeacherCounters()
        self._members = FixedMembers(members) if isinstance(members, Sequence) else members
        self._config = config
        self._clock = clock or SystemClock()
        self._wake = threading.Event()
        self._pace = Pace(f"{os.getpid()}-{uuid.uuid4().hex[:6]}", self._clock.now())
        self._open: list[Part] = []
        """Parts without an answer, in the order in which they were asked."""
        self._routing = Routing()
        self._absence = Absence(name, config.backoff_max_s)

    @property
    def notes(self) -> list[str]:
        """What a person should know: the teacher is left out, the teacher is back."""
        return list(self._absence.notes)

    def ask(self, request: Request) -> Question:
        """Send the request, in parts, without waiting for the answer."""
        parts = [self._part(piece) for piece in cut(request, self._members.batch_tokens)]
        if self._left_out():
            for part in parts:
                part.lost = True
        now = self._clock.now()
        for part in parts:
            if not part.lost:
                self._open.append(part)
                self._send(part, now)
        self._report(now)
        return Question(request, parts)

    def take(self, question: Question) -> Packet | None:
        """Wait for an answer that can be trusted; None when the teacher is done without.

        Raises TeacherError when the retries are used up and stream.on_loss is `fail`.
        """
        begin = self._clock.now()
        try:
            self._settle(question.parts)
        finally:
            self.counters.waited_s += self._clock.now() - begin
        for part in question.parts:
            if part.error is not None:
                raise part.error
        if any(part.lost for part in question.parts):
            self.counters.lost_batches += 1
            return None
        packets = [part.result.packet for part in question.parts]
        return packets[0] if len(packets) == 1 else join(packets)

    def head(self) -> NDArray[np.float32]:
        """The teacher's output layer [V, H], of any replica, by the rules of a question.

        Raises TeacherError also with on_loss `degrade`: hidden states mean nothing without it.
        """
        part = Part("its output layer", 1, lambda replica: replica.head(), head_fault, self._config.retries)
        self._open.append(part)
        self._settle([part])
        if part.error is not None:
            raise part.error
        head_VH: NDArray[np.float32] = part.result
        return head_VH

    def view(self) -> dict[str, float]:
        """How it goes just now, and the counters so far: plain numbers for a live view."""
        now, counted = self._clock.now(), self.counters
        roster = self._members.current()
        return {
            **counted.to_json(),
            "queue_depth": float(len(self._awaited())),
            "replicas": float(len(roster.replicas)),
            "starting": float(roster.starting),
            "respawns": float(roster.respawns),
            "replies_s": self._pace.replies_per_s(now),
            "bytes_position": counted.bytes_received / max(1, counted.positions),
            "left_out": float(bool(self._absence)),
        }

    # Waiting

    def _settle(self, parts: list[Part]) -> None:
        """Look after all open parts until these are settled."""
        while True:
            self._wake.clear()
            now = self._clock.now()
            self._look(now)
            if any(part.lost or part.error for part in parts):
                for part in parts:
                    self._drop(part)
                    part.lost = True
            if all(part.settled for part in parts):
                return
            self._report(now)
            self._clock.wait(self._wake, self._patience(now))

    def _look(self, now: float) -> None:
        """See what has arrived, and send again what must be; parts of later batches too."""
        live = [attempt for part in self._open for attempt in part.live]
        self._routing.tidy(self._members.current().replicas, live)
        for part in list(self._open):
            for attempt in list(part.live):
                if part.settled:
                    break
                if attempt.arrived is not None:
                    self._judge(part, attempt, now)
                elif now - attempt.sent >= self._config.deadline_s:
                    self._late(part, attempt, now)
            if not part.settled and not part.live:
                self._send(part, now)
            elif not part.settled:
                self._hedge(part, now)
        self._open = [part for part in self._open if not part.settled]

    def _patience(self, now: float) -> float:
        """Time until something must be looked at that no arrival announces."""
        times = [HEARTBEAT_S if not part.live else 1.0 for part in self._open]
        for part in self._open:
            times += [part.not_before - now] if part.not_before > now else []
            times += [attempt.sent + self._config.deadline_s - now for attempt in part.live]
        hedge_s = self._pace.hedge_s(self._config.hedge_after, self._config.hedge_min_s)
        if hedge_s is not None:
            ages = [now - part.live[0].sent for part in self._open if part.live and not part.hedged]
            # One that is due and finds nobody free is looked at again at the next beat.
            times += [hedge_s - age if age < hedge_s else HEARTBEAT_S for age in ages]
        # Sums of times are rounded: without a least wait, one that is due in 1e-16 s would never come.
        return max(SHORTEST_S, min(times, default=HEARTBEAT_S))

    # Answers

    def _judge(self, part: Part, attempt: Attempt, now: float) -> None:
        """Trust the answer, or send the part elsewhere."""
        part.live.remove(attempt)
        self._routing.answered(attempt)
        replica = attempt.replica
        try:
            reply = attempt.pending.take(0)
            problem = part.check(reply)
        except ReplicaAwayError as error:
            self._away(part, replica, str(error), now)
        except ReplicaLostError as error:
            self._members.lost(replica, str(error))
            self._fault(part, replica, str(error), now)
        except Exception as error:  # of the teacher's code, or of a reply that cannot even be looked at
            self._wrong(part, replica, error if isinstance(error, ReplicaFailedError) else failed(error), now)
        else:
            if problem is not None:
                self._wrong(part, replica, part.unusable(reply, problem), now)
            else:
                self._accept(part, attempt, reply, now)

    def _accept(self, part: Part, attempt: Attempt, reply: Any, now: float) -> None:
        part.result = reply
        self._drop(part)
        self._routing.trust(attempt.replica)
        self._absence.over()
        if part.request is not None:
            latency_s = (attempt.arrived or now) - attempt.sent
            self.counters.add(part.request, reply, latency_s)
            self._pace.add(now, latency_s, reply.seconds)

    def _wrong(self, part: Part, replica: Replica, error: ReplicaFailedError, now: float) -> None:
        """Its process lives and answers wrong: twice is no accident, from two replicas the same no one's."""
        problem = str(error)
        if part.repeated(replica, error):
            part.faults.append(f"{replica.name}: {problem}")
            self._drop(part)
            why = f"cannot answer {part.label}: {'; '.join(part.faults)}"
            self._give_up(part, why, now, error.fix or SAME_FIX.format(self.name), lost=False)
            return
        if self._routing.distrust(replica):
            self._members.lost(replica, problem)
        self._fault(part, replica, problem, now)

    def _late(self, part: Part, attempt: Attempt, now: float) -> None:
        """Ask elsewhere. The replica is taken for hung when it has answered nothing at all for as long."""
        replica, deadline_s = attempt.replica, self._config.deadline_s
        part.live.remove(attempt)
        self._routing.drop(attempt)
        problem = f"no answer within {deadline_s:g} s"
        if self._routing.silent_for(replica, now) >= deadline_s:
            self._members.lost(replica, problem)
        self._fault(part, replica, problem, now)

    def _away(self, part: Part, replica: Replica, problem: str, now: float) -> None:
        """Not counted as a fault before it has been away for a deadline."""
        if part.away_since is None:
            part.away_since = now
            self.counters.retries += 1
        if now - part.away_since >= self._config.deadline_s:
            self._fault(part, replica, problem, now)
        else:
            part.failed.add(replica)
            self._routing.avoid(replica, now + self._config.backoff_s)

    def _fault(self, part: Part, replica: Replica, problem: str, now: float) -> None:
        part.failed.add(replica)
        part.faults.append(f"{replica.name}: {problem}")
        self._routing.avoid(replica, now + self._config.backoff_s)
        if part.live:
            return  # a second replica is at it already
        if len(part.faults) > part.retries:
            attempts = f"in {len(part.faults)} attempts: {'; '.join(part.faults)}"
            self._give_up(part, f"gave no usable reply for {part.label} {attempts}", now)
        else:
            self.counters.retries += 1

    def _give_up(self, part: Part, why: str, now: float, fix: str = LOST_FIX, *, lost: bool = True) -> None:
        """`lost`: the teacher answers nobody now; else it is this part alone that has no answer."""
        if self._config.on_loss == "fail" or part.request is None:
            part.error = TeacherError(f"teacher '{self.name}' {why}", fix=fix)
            return
        if not lost:
            part.lost = True
            self._absence.note(f"teacher '{self.name}' {why}")
            return
        self._absence.begin(why, self._members.current().replicas, now)
        part.lost = True
        for other in self._open:
            if not other.live and not other.settled and other.request is not None:
                other.lost = True

    def _left_out(self) -> bool:
        """Whether the teacher is not asked now. While an answer is on its way, no other is tried for."""
        if not self._absence:
            return False
        waiting = any(not part.settled for part in self._open)
        return waiting or not self._absence.probes(self._members.current().replicas, self._clock.now())

    # Questions

    def _part(self, request: Request) -> Part:
        return Part(
            f"batch {request.digest.hex()}",
            max(1, request.weight),
            lambda replica: replica.ask(request),
            lambda reply: fault(request, reply),
            # Who waits to hear whether a teacher is back does not wait long.
            0 if self._absence else self._config.retries,
            request,
        )

    def _send(self, part: Part, now: float) -> None:
        """Ask the replica with the least to do, if there is one that may be asked now."""
        roster = self._members.current()
        if not roster.replicas:
            self._nobody(part, roster, now)
            return
        part.nobody_since = None
        fresh = part.fresh(roster.replicas, now, self._config.backoff_s, self._config.backoff_max_s)
        if fresh:
            self._attempt(part, self._routing.least(fresh, now))

    def _nobody(self, part: Part, roster: Roster, now: float) -> None:
        if part.nobody_since is None:
            part.nobody_since = now
        if roster.broken:
            self._give_up(part, f"gave no usable reply for {part.label}: {roster.broken}", now)
        elif now - part.nobody_since >= self._config.start_s:
            said = f"; {roster.said}" if roster.said else ""
            self._give_up(part, f"had no replica for {self._config.start_s:g} s (stream.start_s){said}", now)

    def _hedge(self, part: Part, now: float) -> None:
        """Ask a second replica that has less to do than the slow one."""
        hedge_s = self._pace.hedge_s(self._config.hedge_after, self._config.hedge_min_s)
        slow = part.live[0]
        if hedge_s is None or part.hedged or now - slow.sent < hedge_s:
            return
        others = self._routing.lighter(self._members.current().replicas, slow.replica, part.failed)
        if others:
            part.hedged = True
            self.counters.hedges += 1
            self._attempt(part, self._routing.least(others, now))

    def _attempt(self, part: Part, replica: Replica) -> None:
        attempt = Attempt.send(part, replica, self._clock, self._wake)
        self._routing.sent(attempt)
        part.live.append(attempt)

    def _drop(self, part: Part) -> None:
        """Nobody waits for its answers any more."""
        for attempt in part.live:
            self._routing.drop(attempt)
        part.live = []

    def _awaited(self) -> list[Attempt]:
        return [attempt for part in self._open for attempt in part.live if attempt.arrived is None]

    def _report(self, now: float) -> None:
        if self._pace.due(now):
            self._members.report(self._pace.load(now, [attempt.sent for attempt in self._awaited()]))
