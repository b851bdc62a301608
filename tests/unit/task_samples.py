"""Jobs, rows and models of every task for the tests of alignment and of positions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

from tests.unit.data_samples import jsonl
from tutelage.config import JobConfig
from tutelage.config.task import Task
from tutelage.data.batch import Batch
from tutelage.data.examples import Examples
from tutelage.data.rows import read_rows
from tutelage.data.tokens import tokenise
from tutelage.models.load import load_tokenizer
from tutelage.signals.exchange import Request
from tutelage.signals.spec import PayloadSpec
from tutelage.tasks import StudentRows, TaskKind, TeacherRows, build_task, signal_width
from tutelage.testing import TAGS, tiny_model

TASKS: dict[str, dict[str, Any]] = {
    "token-classification": {"type": "token-classification", "labels": list(TAGS)},
    "question-answering": {"type": "question-answering"},
    "causal-lm": {"type": "causal-lm"},
}
UNICODE = [
    "naïve", "e\u0301te\u0301", "日本語", "👩\u200d👩\u200d👧", "👍🏽", "नमस्ते", "(1998)", "don't", "ﬁne",
    "İstanbul", "…", "x",
]  # fmt: skip


def task_job(task: dict[str, Any], sources: dict[str, Any], **data: Any) -> JobConfig:
    return JobConfig.model_validate(
        {
            "name": "sample",
            "task": task,
            "data": {"sources": sources, **data},
            "student": {"model": "none"},
            "objectives": [{"type": "cross-entropy"}],
        }
    )


def examples_of(
    folder: Path,
    task: dict[str, Any],
    rows: list[dict[str, Any]],
    tokenizer: str,
    max_tokens: int = 64,
    columns: dict[str, Any] | None = None,
) -> Examples:
    """The rows, all of the train split, in the order of their row numbers when asked by `in_order`."""
    folder.mkdir(parents=True, exist_ok=True)
    source: dict[str, Any] = {"path": jsonl(folder / "rows.jsonl", rows), "split": "train"}
    if columns:
        source["columns"] = columns
    found = read_rows(task_job(task, {"s": source}), folder / "home")
    return Examples.open(tokenise(found, tokenizer, max_tokens, folder / "home"))


def in_order(examples: Examples) -> np.ndarray:
    """The rows as they stood in the file."""
    everything = np.arange(len(examples))
    return everything[np.argsort(examples._table.numbers("row"))]


def batch_of(examples: Examples, rows: Any = None) -> Batch:
    """The rows, all in file order when none are named, with their labels."""
    rows = in_order(examples) if rows is None else np.asarray(rows, np.int64)
    return examples.batch(rows, np.ones(len(rows), bool), 0)


@dataclass
class Side:
    """A model with its tokenizer, as teacher or as student."""

    kind: TaskKind
    section: Any
    folder: str

    def __post_init__(self) -> None:
        self.model = self.kind.load(self.folder)
        self.tokenizer = load_tokenizer(self.folder)

    def spec(self, batch: Batch, kind: Any = "dense") -> PayloadSpec:
        return PayloadSpec(kind, signal_width(self.section, batch.vocabulary))

    def request(self, batch: Batch, kind: Any = "dense") -> Request:
        return self.kind.request(batch, self.spec(batch, kind))

    def teach(self, batch: Batch, max_tokens: int = 64, kind: Any = "dense") -> TeacherRows:
        with torch.inference_mode():
            return self.kind.score(self.model, self.tokenizer, self.request(batch, kind), max_tokens)

    def study(self, batch: Batch) -> StudentRows:
        with torch.no_grad():
            return self.kind.student(self.model(**inputs_of(batch)), batch)


def inputs_of(batch: Batch) -> dict[str, torch.Tensor]:
    """What the student is called with."""
    inputs = {"input_ids": batch.input_ids_BT, "attention_mask": batch.attention_mask_BT}
    if batch.token_types_BT is not None:
        inputs["token_type_ids"] = batch.token_types_BT
    return {name: torch.from_numpy(array) for name, array in inputs.items()}


def side(folder: Path, task: dict[str, Any], name: str = "model", **model: Any) -> Side:
    """A tiny model of the task."""
    section: Any = TypeAdapter(Task).validate_python(task)
    labels = list(section.labels) or None
    path = tiny_model(folder / name, section.type, labels, **model)
    return Side(build_task(section), section, path)


def trained_tokenizer(kind: str, corpus: list[str]) -> Any:
    """A fast tokenizer of one of the usual families, learned from the texts: its own splits and offsets."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    from tutelage.testing.classification import wrapped

    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    if kind == "byte-bpe":
        tokenizer: Any = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer: Any = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    elif kind == "wordpiece":
        tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        trainer = trainers.WordPieceTrainer(vocab_size=300, special_tokens=special)
    else:
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.normalizer = normalizers.NFKC()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        trainer = trainers.UnigramTrainer(
            vocab_size=150, special_tokens=special, unk_token="[UNK]", show_progress=False
        )
    tokenizer.train_from_iterator(corpus, trainer)
    found = wrapped(tokenizer)
    assert isinstance(found, PreTrainedTokenizerFast)
    return found
