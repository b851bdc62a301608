"""Which kind of teacher a spec means."""

from __future__ import annotations

from actors.teacher import Scorer, Teacher, TeacherSpec


def make_scorer(spec: TeacherSpec, replica: str | int = 0) -> Scorer:
    """A model in this process, or the client of a server. Raises ModelError, ConfigError or TeacherError."""
    if spec.remote is None:
        return Teacher(spec, replica)
    from actors.remote.teacher import RemoteTeacher

    return RemoteTeacher(spec, replica)
