"""Versions: immutable, content-addressed, with movable aliases and a receipt for every move."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3
from sqlalchemy import select
from sqlalchemy.orm import Session

from tutelage.errors import StoreError
from tutelage.registry.artifacts import ArtifactStore, Entry, Manifest
from tutelage.registry.card import VersionCard
from tutelage.registry.database import Database
from tutelage.registry.refs import check_name, find
from tutelage.registry.tables import AliasRow, ReceiptRow, VersionRow

GRACE_S = 3600.0
"""Unreferenced objects younger than this may belong to a version that is being added."""


@dataclass(frozen=True)
class Version:
    """One version. Nothing of it ever changes."""

    name: str
    id: str
    created: float
    """Seconds since 1970."""
    card: VersionCard
    manifest: Manifest

    @property
    def ref(self) -> str:
        """`name:id`, which always names this version."""
        return f"{self.name}:{self.id}"

    @property
    def bytes(self) -> int:
        """Of all its files."""
        return sum(entry.size for entry in self.manifest.values())


@dataclass(frozen=True)
class Receipt:
    """One move of an alias."""

    name: str
    alias: str
    at: float
    who: str
    from_id: str | None
    to_id: str
    why: str


Receipts = list[Receipt]
Sentences = list[str]


@dataclass(frozen=True)
class Garbage:
    """What a collection removes."""

    objects: list[str]
    """Digests."""
    bytes: int
    leftovers: int
    """Files that an interrupted writer left."""


class Versions:
    """The versions of one registry.

    Args:
        database: names, cards, manifests, aliases, receipts.
        artifacts: the files.
        home: versions are materialised below home/versions.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        database: Database,
        artifacts: ArtifactStore,
        home: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._artifacts, self._clock = database, artifacts, clock
        self._folders = home / "versions"

    def add(self, name: str, folder: Path, card: VersionCard) -> Version:
        """Store the folder's files and record them; the same content and lineage again is the same version.

        A kill at any point leaves no version, or the whole one.

        Raises:
            ConfigError: a name that is not allowed.
            StoreError: nothing to store, or a store that cannot be written.
        """
        check_name("version name", name)
        manifest = self._artifacts.put_folder(folder)
        identity = version_id(manifest, card)
        with self._database.write() as session:
            query = select(VersionRow).where(VersionRow.name == name, VersionRow.id == identity)
            row = session.scalars(query).one_or_none()
            if self._artifacts.missing(manifest):  # collected in between; none is collected under this lock
                self._artifacts.put_folder(folder)
            if row is None:
                row = VersionRow(
                    name=name,
                    id=identity,
                    created=self._clock(),
                    card=card.model_dump_json(),
                    manifest=_manifest_text(manifest),
                )
                session.add(row)
                session.flush()
            return _version(row)

    def get(self, ref: str) -> Version:
        """The version that `name`, `name@alias`, `name:idprefix` or `idprefix` names. Raises ConfigError."""
        with self._database.read() as session:
            return _version(find(session, ref))

    def names(self) -> Sentences:
        """All names, sorted."""
        with self._database.read() as session:
            return list(session.scalars(select(VersionRow.name).distinct().order_by(VersionRow.name)))

    def list(self, name: str | None = None) -> list[Version]:
        """Versions, newest first."""
        query = select(VersionRow).order_by(VersionRow.number.desc())
        with self._database.read() as session:
            rows = session.scalars(query if name is None else query.where(VersionRow.name == name))
            return [_version(row) for row in rows]

    def set_alias(self, name: str, alias: str, id: str, *, why: str, who: str | None = None) -> Receipt:
        """Point `name@alias` at the version whose id starts with `id`, and keep a receipt of it.

        Setting it to where it points already is recorded too: somebody confirmed it.
        """
        check_name("alias", alias)
        with self._database.write() as session:
            version = find(session, f"{name}:{id}")
            row = session.get(AliasRow, (name, alias))
            before = row.version_id if row else None
            if row is None:
                session.add(AliasRow(name=name, alias=alias, version_id=version.id))
            else:
                row.version_id = version.id
            receipt = ReceiptRow(
                name=name,
                alias=alias,
                at=self._clock(),
                who=who or _user(),
                from_id=before,
                to_id=version.id,
                why=why,
            )
            session.add(receipt)
            session.flush()
            return _receipt(receipt)

    def aliases(self, name: str) -> dict[str, str]:
        """Alias -> version id."""
        query = select(AliasRow).where(AliasRow.name == name).order_by(AliasRow.alias)
        with self._database.read() as session:
            return {row.alias: row.version_id for row in session.scalars(query)}

    def receipts(self, name: str) -> Receipts:
        """Every move of the name's aliases, newest first."""
        query = select(ReceiptRow).where(ReceiptRow.name == name).order_by(ReceiptRow.number.desc())
        with self._database.read() as session:
            return [_receipt(row) for row in session.scalars(query)]

    def verify(self, version: Version) -> Sentences:
        """One sentence for everything that is not as it was recorded; empty when all is well."""
        problems = self._artifacts.problems(version.manifest)
        identity = version_id(version.manifest, version.card)
        if identity != version.id:
            problems.append(f"manifest or lineage was changed: they give the id {identity}, not {version.id}")
        return problems

    def folder(self, version: Version) -> Path:
        """The version's files under home/versions/ID, made or repaired when needed, every digest checked.

        Raises:
            StoreError: an object is missing or damaged.
        """
        return self._artifacts.materialise(version.manifest, self._folders / version.id)

    def gc(self, *, plan: bool = False, grace_s: float = GRACE_S) -> Garbage:
        """Remove objects that no version holds and that are `grace_s` old; with `plan` only say which."""
        with self._database.write() as session:
            held = _held(session)
            old = [one for one in self._artifacts.objects() if one.age_s >= grace_s]
            objects = [one for one in old if one.digest and one.digest not in held]
            leftovers = [one for one in old if not one.digest]
            if not plan:
                self._artifacts.remove((one.digest for one in objects), leftovers_older_s=grace_s)
        return Garbage(
            [one.digest for one in objects], sum(one.size for one in [*objects, *leftovers]), len(leftovers)
        )


def version_id(manifest: Manifest, card: VersionCard) -> str:
    """First 12 hex digits of blake3 over the sorted manifest and the card's lineage."""
    # What no search chose and no update made keeps the id that it had before there were such.
    unsearched = {n for n in ("parent", "search", "trial") if getattr(card.lineage, n) is None}
    identity = {
        "manifest": json.loads(_manifest_text(manifest)),
        "lineage": card.lineage.model_dump(mode="json", exclude=unsearched),
    }
    text = json.dumps(identity, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return blake3(text.encode()).hexdigest()[:12]


def _manifest_text(manifest: Manifest) -> str:
    plain = {name: [entry.digest, entry.size] for name, entry in manifest.items()}
    return json.dumps(plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def _manifest(text: str) -> Manifest:
    return {name: Entry(digest, size) for name, (digest, size) in json.loads(text).items()}


def _version(row: VersionRow) -> Version:
    try:
        card, manifest = VersionCard.model_validate_json(row.card), _manifest(row.manifest)
    except (ValueError, TypeError, AttributeError) as problem:
        raise StoreError(
            f"version {row.name}:{row.id} cannot be read: {str(problem).splitlines()[0]}",
            fix="restore the registry from a copy",
        ) from problem
    return Version(row.name, row.id, row.created, card, manifest)


def _receipt(row: ReceiptRow) -> Receipt:
    return Receipt(row.name, row.alias, row.at, row.who, row.from_id, row.to_id, row.why)


def _held(session: Session) -> set[str]:
    texts = session.scalars(select(VersionRow.manifest))
    return {entry.digest for text in texts for entry in _manifest(text).values()}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container user without a name
        return "unknown"
