"""Why a process on another machine failed: its own words in one line, and whether it would fail so again.

A process that is lost, a connection or a full memory is worth another try. What the code says of the
question is not: every replica of a teacher runs the same code on the same weights.
"""

from __future__ import annotations

import re

from tutelage.errors import (
    ConfigError,
    DataError,
    ModelError,
    RefusedError,
    StoreError,
    TeacherError,
    TutelageError,
)

LASTING = (
    ConfigError, DataError, ModelError,
    ValueError, TypeError, LookupError, AttributeError, ArithmeticError, AssertionError, NameError,
    ImportError, NotImplementedError, RecursionError,
)  # fmt: skip
"""Exceptions about what was asked and how, never about where: the same comes again."""
PASSING = (OSError, EOFError, MemoryError)
"""Exceptions about a place, a connection or a memory, which may be well the next time (TimeoutError too)."""
FULL = (
    "out of memory", "outofmemory", "memoryerror", "can't allocate memory", "memory pressure",
    "cublas_status_alloc_failed",
)  # fmt: skip
"""Words of a full memory in small letters: of torch on CPU and GPU, of cuBLAS, and of Ray's monitor."""
LATER = (408, 409, 423, 425, 429)
"""The statuses of a server that say "not now", among those that say "not so"."""

LOST_FIX = "look at the teacher's log; stream.retries and stream.deadline_s set the patience"
SAME_FIX = (
    "every replica would say the same: correct what it names in teachers.{0} or in its model, "
    "or take the teacher out of the job"
)
_RAISED = re.compile(r"^\s*[\w.]*(?:Error|Exception|Interrupt|Exit): ", re.MULTILINE)
_FIX = re.compile(r"^\s*fix: ", re.MULTILINE)


def own_error(error: BaseException) -> TutelageError | None:
    """The error of ours that a remote process raised; None when it failed in another way."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, TutelageError):
            return seen
        wrapped = getattr(seen, "cause", None) or getattr(seen, "_base_exc", None)
        seen = wrapped or seen.__cause__
    return None


def root(error: BaseException) -> BaseException:
    """What the remote code itself raised; the error as it is where nobody knows."""
    ours = own_error(error)
    if ours is not None:
        return ours
    wrapped = getattr(error, "cause", None) or getattr(error, "_base_exc", None)
    return root(wrapped) if isinstance(wrapped, BaseException) else error


def lasting(error: BaseException) -> bool:
    """Whether the code would raise the same again, in any process."""
    found = root(error)
    if isinstance(found, RefusedError):
        return 400 <= found.status < 500 and found.status not in LATER
    return isinstance(found, LASTING) and not isinstance(found, PASSING)


def passing(error: BaseException) -> bool:
    """Whether the same words from two processes are no proof that a third would say them."""
    found = root(error)
    if isinstance(found, TutelageError):
        # A server that does not answer says so to each of its clients.
        return not isinstance(found, RefusedError | ConfigError | DataError | ModelError)
    return isinstance(found, PASSING) or out_of_memory(found)


def unreachable(error: BaseException) -> bool:
    """Whether a store or a teacher was out of reach, which says nothing of what was to be trained."""
    found = root(error)
    return isinstance(found, StoreError) or (isinstance(found, TeacherError) and passing(found))


def out_of_memory(error: BaseException | str) -> bool:
    """Whether a memory was full, of whatever device: each library says it in words of its own."""
    known = [error] if isinstance(error, str) else [error, root(error)]
    text = " ".join(one if isinstance(one, str) else f"{type(one).__name__} {one}" for one in known).lower()
    return any(mark in text for mark in FULL)


def named_reason(error: BaseException) -> str:
    """The reason, after the kind of exception where that is not one of ours: `KeyError: 'x'`."""
    found = root(error)
    kind = "" if isinstance(found, TutelageError) else f"{type(found).__name__}: "
    return f"{kind}{reason(found)}"


def reason(error: BaseException) -> str:
    """What went wrong, without what to do about it."""
    ours = own_error(error)
    if ours is not None:
        return " ".join(ours.problem.split())
    text = str(error).strip()
    # A failed constructor reaches the caller as text alone, with the traceback in front.
    raised = list(_RAISED.finditer(text))
    words = text[raised[-1].end() :] if raised else text.rpartition("\n")[2]
    fix = _FIX.search(words)
    return " ".join((words[: fix.start()] if fix else words).split()) or type(error).__name__
