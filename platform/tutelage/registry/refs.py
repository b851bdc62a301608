"""How a version is named: `name`, `name@alias`, `name:idprefix`, `idprefix`."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from sqlalchemy import select
from sqlalchemy.orm import Session

from tutelage.errors import ConfigError
from tutelage.registry.tables import AliasRow, VersionRow

CHAMPION = "champion"
_NAME = re.compile(r"^[a-z0-9][a-z0-9._-]{0,62}$")
_PREFIX = re.compile(r"^[0-9a-f]{1,12}$")


def check_name(kind: str, name: str) -> str:
    """`name`, when it may name a version or be an alias. Raises ConfigError."""
    if not _NAME.match(name):
        raise ConfigError(
            f"{kind} '{name}' is not allowed: lower-case letters, digits, '.', '_' and '-', at most 63",
            fix="choose another name",
        )
    return name


def find(session: Session, ref: str) -> VersionRow:
    """The version that `ref` names: of a bare name its champion, or the newest without one.

    Raises:
        ConfigError: nothing has that name, or several have; the message lists them.
    """
    if "@" in ref:
        name, _, alias = ref.partition("@")
        return _by_alias(session, _known(session, name), alias)
    if ":" in ref:
        name, _, prefix = ref.partition(":")
        return _by_prefix(session, ref, prefix, _known(session, name))
    if ref in _names(session):
        alias_row = session.get(AliasRow, (ref, CHAMPION))
        if alias_row is not None:
            return _by_prefix(session, ref, alias_row.version_id, ref)
        newest = select(VersionRow).where(VersionRow.name == ref).order_by(VersionRow.number.desc()).limit(1)
        return session.scalars(newest).one()
    if _PREFIX.match(ref):
        return _by_prefix(session, ref, ref, None)
    raise _unknown(ref, _names(session))


def _by_alias(session: Session, name: str, alias: str) -> VersionRow:
    row = session.get(AliasRow, (name, alias))
    if row is None:
        known = session.scalars(select(AliasRow.alias).where(AliasRow.name == name).order_by(AliasRow.alias))
        raise ConfigError(
            f"'{name}' has no alias '{alias}', only {', '.join(known) or 'none'}",
            fix=f"set it: tutelage models alias {name}:ID {alias} --why REASON",
        )
    return _by_prefix(session, f"{name}@{alias}", row.version_id, name)


def _by_prefix(session: Session, ref: str, prefix: str, name: str | None) -> VersionRow:
    query = select(VersionRow).where(VersionRow.id.startswith(prefix, autoescape=True))
    if name is not None:
        query = query.where(VersionRow.name == name)
    rows = list(session.scalars(query.order_by(VersionRow.number)))
    if len(rows) == 1 and prefix:
        return rows[0]
    if rows:
        candidates = ", ".join(f"{row.name}:{row.id}" for row in rows)
        raise ConfigError(f"'{ref}' is ambiguous: {candidates}", fix="write one of them")
    of_name = select(VersionRow).where(VersionRow.name == name) if name else select(VersionRow)
    raise _unknown(ref, [f"{row.name}:{row.id}" for row in session.scalars(of_name)] + _names(session))


def _known(session: Session, name: str) -> str:
    names = _names(session)
    if name not in names:
        raise _unknown(name, names)
    return name


def _names(session: Session) -> list[str]:
    return list(session.scalars(select(VersionRow.name).distinct().order_by(VersionRow.name)))


def _unknown(ref: str, known: Iterable[str]) -> ConfigError:
    known = list(known)
    near = difflib.get_close_matches(ref, known, n=3, cutoff=0.3)
    hint = f"; near: {', '.join(near)}" if near else "; there are no versions yet" if not known else ""
    return ConfigError(f"no version '{ref}'{hint}", fix="`tutelage models ls` lists them")
