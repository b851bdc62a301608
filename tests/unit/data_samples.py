"""Jobs, files and a word tokenizer for the tests of the data layer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet

from tutelage.config import JobConfig


def job(
    sources: dict[str, Any], labels: tuple[str, ...] = ("negative", "positive"), **data: Any
) -> JobConfig:
    return JobConfig.model_validate(
        {
            "name": "sample",
            "task": {"labels": list(labels)},
            "data": {"sources": sources, **data},
            "student": {"model": "none"},
            "objectives": [{"type": "cross-entropy"}],
        }
    )


def texts(count: int, prefix: str = "text") -> list[str]:
    return [f"{prefix} number {i}" for i in range(count)]


def parquet(path: Path, **columns: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa.parquet.write_table(pa.table(columns), path)
    return str(path)


def labelled(path: Path, count: int, prefix: str = "text") -> str:
    """A parquet file of `count` rows with alternating labels."""
    kinds = [("negative", "positive")[i % 2] for i in range(count)]
    return parquet(path, text=texts(count, prefix), label=kinds)


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def word_tokenizer(folder: Path, words: list[str], *, unknown: bool = True) -> str:
    """A folder with a tokenizer.json that gives each word its number; 0 is [PAD], 1 is [UNK]."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]" if unknown else "absent"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=64)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return str(folder)
