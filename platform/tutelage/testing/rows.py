"""Rows for the tasks beside sequence-classification; each can be learned in seconds."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tutelage.config.task import TaskName
from tutelage.testing.classification import DOMAINS, LABELS, tiny_texts, tiny_words

TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
_KINDS = ("PER", "LOC")
_NAMES, _FILLERS = 6, 12
_ASK = {"PER": "who", "LOC": "where"}
_CIRCLE = 8
"""Words of a domain that follow each other; after the last comes the first."""


def tiny_task_words(task: TaskName, domains: Sequence[str] = DOMAINS) -> list[str]:
    """Every word of the rows of a task."""
    if task == "sequence-classification":
        return tiny_words(LABELS, domains)
    if task == "causal-lm":
        return ["after", "comes", *[word for domain in domains for word in _circle(domain)]]
    names = [name for domain in domains for kind in _KINDS for name in _names(domain, kind)]
    return [*_ASK.values(), *names, *[word for domain in domains for word in _fillers(domain)]]


def tiny_tagged(count: int, domain: str = DOMAINS[0], *, seed: int = 0) -> list[dict[str, Any]]:
    """Different rows {"tokens", "tags"}: a word says whether it is a name and of what kind.

    The first word of a name is B, the others I. Names belong to one domain.
    """
    rng = random.Random(f"{seed} tags {domain}")  # noqa: S311  # repeatable, not secret
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        words, tags = [], []
        for kind in rng.sample(_KINDS, rng.randrange(1, 3)):
            fillers = rng.sample(_fillers(domain), rng.randrange(1, 4))
            # The last word of a name is even, the others odd: the word alone decides its tag.
            name = [rng.choice(_names(domain, kind)[1::2]) for _ in range(rng.randrange(2))]
            name = [rng.choice(_names(domain, kind)[::2]), *name]
            words += [*fillers, *name]
            tags += ["O"] * len(fillers) + [f"B-{kind}"] + [f"I-{kind}"] * (len(name) - 1)
        rows[" ".join(words)] = {"tokens": words, "tags": tags}
    return list(rows.values())


def tiny_answers(
    count: int, domain: str = DOMAINS[0], *, unanswerable: float = 0.0, seed: int = 0
) -> list[dict[str, Any]]:
    """Different rows {"question", "context", "answers"}: who or where, and the name of that kind.

    Args:
        count: rows.
        domain: whose names and fillers.
        unanswerable: share of rows whose context lacks the name that is asked for.
        seed: of the choice.
    """
    rng = random.Random(f"{seed} answers {domain}")  # noqa: S311
    rows: dict[str, dict[str, Any]] = {}
    while len(rows) < count:
        asked = rng.choice(_KINDS)
        there = {kind: rng.choice(_names(domain, kind)) for kind in _KINDS}
        if rng.random() < unanswerable:
            del there[asked]
        words = [*there.values(), *rng.sample(_fillers(domain), rng.randrange(2, 6))]
        rng.shuffle(words)
        context = " ".join(words)
        name = there.get(asked)
        found = [] if name is None else [name]
        starts = [f" {context} ".index(f" {one} ") for one in found]
        rows[f"{asked} {context}"] = {
            "question": _ASK[asked],
            "context": context,
            "answers": {"text": found, "answer_start": starts},
        }
    return list(rows.values())


def tiny_completions(count: int, domain: str = DOMAINS[0], *, seed: int = 0) -> list[dict[str, str]]:
    """Rows {"text", "prompt", "completion"}: words go round in a circle, from where the prompt says.

    text is prompt and completion together. Rows repeat once every start and length has occurred.
    """
    rng = random.Random(f"{seed} circle {domain}")  # noqa: S311
    circle = _circle(domain)
    rows = []
    for _ in range(count):
        start, length = rng.randrange(_CIRCLE), rng.randrange(3, 9)
        prompt = f"after {circle[start]} comes"
        completion = "".join(f" {circle[(start + step) % _CIRCLE]}" for step in range(1, length + 1))
        rows.append({"text": prompt + completion, "prompt": prompt, "completion": completion})
    return rows


def tiny_task_rows(
    folder: Path, task: TaskName, count: int = 200, domains: Sequence[str] = DOMAINS, *, seed: int = 0
) -> dict[str, str]:
    """Write rows of each domain to `folder`/DOMAIN.jsonl; returns the file of each domain."""
    folder.mkdir(parents=True, exist_ok=True)
    makers: dict[TaskName, Any] = {
        "sequence-classification": tiny_texts,
        "token-classification": tiny_tagged,
        "question-answering": tiny_answers,
        "causal-lm": tiny_completions,
    }
    files: dict[str, str] = {}
    for domain in domains:
        path = folder / f"{domain}.jsonl"
        rows = makers[task](count, domain, seed=seed)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        files[domain] = str(path)
    return files


def _names(domain: str, kind: str) -> list[str]:
    return [f"{domain}_{kind}_{n}" for n in range(_NAMES)]


def _fillers(domain: str) -> list[str]:
    return [f"{domain}_word_{n}" for n in range(_FILLERS)]


def _circle(domain: str) -> list[str]:
    return [f"{domain}_turn_{n}" for n in range(_CIRCLE)]
