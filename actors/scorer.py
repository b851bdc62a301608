"""Which kind of teacher a spec means."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from actors.teacher import Scorer, Teacher, TeacherSpec
from tutelage.signals.exchange import Reply, Request


def make_scorer(spec: TeacherSpec, replica: str | int = 0) -> Scorer:
    """A model in this process, or the client of a server. Raises ModelError, ConfigError or TeacherError."""
    if spec.remote is None:
        return Teacher(spec, replica)
    from actors.remote.teacher import RemoteTeacher

    return RemoteTeacher(spec, replica)


class AnyTeacher:
    """`make_scorer` as a class, which is what an actor is made of."""

    def __init__(self, spec: TeacherSpec, replica: str | int = 0) -> None:
        self._scorer = make_scorer(spec, replica)

    def describe(self) -> dict[str, str]:
        """Facts about the replica."""
        return self._scorer.describe()

    def score(self, request: Request) -> Reply:
        """The signals that the request asks for."""
        return self._scorer.score(request)

    def head(self) -> NDArray[np.float32]:
        """Weights [V, H] of the output layer."""
        return self._scorer.head()
