"""Which kind of teacher a spec means."""

from __future__ import annotations

from actors.teacher import Layers, Scorer, Teacher, TeacherSpec


def make_scorer(spec: TeacherSpec, replica: str | int = 0, layers: Layers | None = None) -> Scorer:
    """A model in this process, or the client of a server. Raises ModelError, ConfigError or TeacherError."""
    if spec.remote is None:
        return Teacher(spec, replica, layers)
    from actors.remote.teacher import RemoteTeacher

    return RemoteTeacher(spec, replica)
