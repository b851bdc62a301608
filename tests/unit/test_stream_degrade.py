"""A student whose teacher is lost: `on_loss: degrade` trains on with the others' weights scaled up."""

from __future__ import annotations

from typing import Any

import pytest

from actors.teacher import ScriptedTeacher
from tests.unit.tolerances import SUMMED
from tests.unit.training_samples import SOFT, Session, Tiny, opinion, session
from tutelage.config.runtime import StreamConfig
from tutelage.errors import TeacherError
from tutelage.signals.exchange import Reply, Request

pytestmark = pytest.mark.unit

DEGRADE = StreamConfig(window=1, retries=0, on_loss="degrade")


class Mortal(ScriptedTeacher):
    """Answers so many questions, then none."""

    def __init__(self, answers: int) -> None:
        super().__init__(lambda text: opinion(text, sure=-1.0), "mortal")
        self._answers = answers

    def score(self, request: Request) -> Reply:
        """The rule's logits, or an error."""
        if self.calls >= self._answers:
            raise RuntimeError("the process is gone")
        return super().score(request)


def trained(tiny: Tiny, stream: StreamConfig, **teachers: Any) -> Session:
    ready = session(tiny, teachers=teachers, objectives=SOFT, stream=stream)
    ready.run()
    return ready


def test_without_its_second_teacher_the_student_learns_as_from_the_first_alone(tiny: Tiny) -> None:
    """A weight of 1/2 scaled up to 1 is that of a single teacher, at every step."""
    alone = trained(tiny, DEGRADE, good=opinion)
    left = trained(tiny, DEGRADE, good=opinion, mortal=Mortal(0))
    assert left.losses == pytest.approx(alone.losses, rel=SUMMED)
    channel = left.stream.channels[1]
    assert channel.counters.lost_batches == len(left.losses)
    assert len(channel.notes) == 1
    assert "teacher 'mortal' is left out" in channel.notes[0]
    assert left.stream.channels[0].counters.lost_batches == 0


def test_up_to_its_end_the_teacher_is_heard(tiny: Tiny) -> None:
    """Three answers: three steps with both teachers, and then those of the other one."""
    both = trained(tiny, DEGRADE, good=opinion, mortal=Mortal(1000))
    left = trained(tiny, DEGRADE, good=opinion, mortal=Mortal(3))
    alone = trained(tiny, DEGRADE, good=opinion)
    assert left.losses[:3] == both.losses[:3]
    assert left.losses[3] != both.losses[3]
    assert both.losses[0] != alone.losses[0]
    heard = left.stream.channels[1].counters
    assert heard.calls == 3
    # What was heard stays in the store: a batch of the second epoch that has all of it hears it again.
    assert len(left.losses) - 6 <= heard.lost_batches <= len(left.losses) - 3


def test_by_default_the_run_fails_and_names_the_teacher(tiny: Tiny) -> None:
    with pytest.raises(TeacherError, match=r"teacher 'mortal' gave no .* for batch .*process is gone"):
        trained(tiny, StreamConfig(window=1, retries=0), good=opinion, mortal=Mortal(2))
