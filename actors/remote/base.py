"""What a protocol must say of a server, and the checks that all protocols share."""

from __future__ import annotations

from typing import Any, Protocol

from tutelage.errors import RefusedError
from tutelage.signals.exchange import Request
from tutelage.signals.packet import Packet
from tutelage.signals.spec import PayloadSpec


class RemoteModel(Protocol):
    """One model of one server, asked in one protocol."""

    def identity(self) -> dict[str, Any]:
        """What the server says of itself and of the model, without what changes from call to call.

        Raises TeacherError: not reachable, not ready, or no such model (with the names it knows).
        """
        ...

    def probe(self, spec: PayloadSpec) -> None:
        """Ask one tiny question. Raises TeacherError when the answer cannot serve the payload."""
        ...

    def score(self, request: Request) -> Packet:
        """The signals that the request asks for. Raises TeacherError when the answer cannot be right."""
        ...


def wrong(
    where: str, problem: str, fix: str = "see that the server runs the model and version you mean"
) -> RefusedError:
    """An answer that cannot belong to the question: it never reaches the student."""
    return RefusedError(f"{where}: {problem}", fix=fix)


def part(value: Any, key: str, kind: type, where: str) -> Any:
    """`value[key]`, which must be of the kind. Raises RefusedError."""
    found = value.get(key) if isinstance(value, dict) else None
    if not isinstance(found, kind) or (kind is int and isinstance(found, bool)):
        given = "missing" if found is None else f"a {type(found).__name__}"
        raise wrong(
            where,
            f"'{key}' is {given}, a {kind.__name__} was expected",
            fix="check remote.type: the server speaks another protocol or dialect",
        )
    return found


def same_name(answered: Any, asked: str, where: str) -> None:
    """Refuse an answer that says it comes from another model."""
    if isinstance(answered, str) and answered and answered != asked:
        raise wrong(where, f"the answer comes from model '{answered[:100]}', asked was '{asked}'")
