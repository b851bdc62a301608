"""The one error tree. Every message names the key or file, the value, what is allowed, and the fix.

TutelageError            exit code 3 unless said otherwise
├── ConfigError      2   a job file, an override or an argument is wrong
├── DataError        2   rows, columns or files of the data are wrong
├── ModelError       2   a model folder does not fit the task
├── GateError        1   everything ran, and the result is not good enough
├── TeacherError     3   a teacher is lost, late, or answers nonsense
│   └── RefusedError     a server answered, and it is no answer to the question
├── StoreError       3   runs, versions, signals or artifacts cannot be read or written
├── TrainError       3   a training ended without a result
├── ServeError       3   an endpoint did not come up or did not answer
│   └── DeployError  1   a version failed, or found no room; what answered before goes on
└── ClusterError     3   Ray or the machine under it
"""

from __future__ import annotations

from typing import Any


class TutelageError(Exception):
    """A failure that a person can act on: what is wrong, and what to do about it."""

    exit_code = 3

    def __init__(self, problem: str, *, fix: str = "") -> None:
        super().__init__(problem, fix)
        self.problem = problem
        self.fix = fix

    def __str__(self) -> str:
        return f"{self.problem}\n  fix: {self.fix}" if self.fix else self.problem

    def __reduce__(self) -> tuple[Any, ...]:
        # Workers raise these, and an exception is otherwise rebuilt by positional arguments alone.
        return _restored, (type(self), self.args), self.__dict__


def _restored(kind: type[TutelageError], args: tuple[Any, ...]) -> TutelageError:
    """The error in another process; its attributes follow."""
    error = kind.__new__(kind)
    error.args = args
    return error


class ConfigError(TutelageError):
    """A key, value or combination in the job file that cannot be meant."""

    exit_code = 2


class DataError(TutelageError):
    """Data that cannot be read as the job file says."""

    exit_code = 2


class ModelError(TutelageError):
    """A model folder that is missing, unsafe, or made for another task."""

    exit_code = 2


class GateError(TutelageError):
    """A result that was measured and is below what the job file asks for."""

    exit_code = 1


class TeacherError(TutelageError):
    """A teacher that is lost, late, or whose reply does not belong to the batch."""


class RefusedError(TeacherError):
    """A teacher's server answered, and it is no answer to the question."""

    def __init__(self, problem: str, *, fix: str = "", status: int = 0, said: str = "") -> None:
        super().__init__(problem, fix=fix)
        self.status = status
        self.said = said
        """The server's own words."""


class StoreError(TutelageError):
    """State on disk or in the database that cannot be read or written."""


class TrainError(TutelageError):
    """A training that ended without a student."""


class DivergedError(TrainError):
    """A training whose penalty takes over: too stiff for its steps."""


class ServeError(TutelageError):
    """An endpoint that did not come up, or does not answer."""


class DeployError(ServeError):
    """A version that was not put in the place of what answers."""

    exit_code = 1


class ClusterError(TutelageError):
    """Ray, or the machine under it, is not as needed."""
