"""Why a process on another machine failed, in one line: its own words, without the stack Ray wraps around."""

from __future__ import annotations

import re

from tutelage.errors import TutelageError

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
