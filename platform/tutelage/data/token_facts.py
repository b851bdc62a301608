"""What a tokenizer makes of the rows: tokens it does not know, texts that are cut, test texts seen before."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tutelage.data.near import Leaks, find_leaks
from tutelage.data.table import MappedTable
from tutelage.files import atomic_write, digest_text
from tutelage.tokenizer import load_tokenizer

FORMAT = "facts-1"
"""Raised when the same tokens would give other facts."""


@dataclass
class SourceFacts:
    """Of one source, over all splits."""

    texts: int = 0
    tokens: int = 0
    """Without special tokens."""
    unknown: int = 0
    """Tokens that stand for what the tokenizer does not know."""
    cut: int = 0
    """Texts that are longer than data.max_tokens."""


@dataclass(frozen=True)
class TokenFacts:
    """Of all rows of a job, as one tokenizer reads them."""

    sources: dict[str, SourceFacts] = field(default_factory=dict)
    leaks: Leaks = field(default_factory=Leaks)


def token_facts(tokens: Path, tokenizer_folder: str, max_tokens: int) -> TokenFacts:
    """The facts of a file that `tokenise` wrote; counted once and kept beside it."""
    kept = tokens.with_name(f"facts-{digest_text(FORMAT)[:8]}.json")
    if kept.is_file():
        saved = json.loads(kept.read_text())
        sources = {name: SourceFacts(**one) for name, one in saved["sources"].items()}
        return TokenFacts(sources, Leaks(**saved["leaks"]))
    tokenizer = load_tokenizer(tokenizer_folder)
    table = MappedTable(tokens)
    special, unknown = special_ids(tokenizer)
    facts = TokenFacts(_by_source(table, tokenizer, max_tokens), find_leaks(table, special, unknown))
    with atomic_write(kept, "w") as file:
        file.write(json.dumps(asdict(facts), indent=1) + "\n")
    return facts


def special_ids(tokenizer: Any) -> tuple[set[int], int | None]:
    """Ids that are no part of a text, and the one that stands for what the tokenizer does not know.

    Some tokenizers know every byte; what they call unknown is their end token, and is never used.
    """
    roles = ("bos", "eos", "sep", "pad", "cls", "mask")
    taken = {getattr(tokenizer, f"{role}_token_id", None) for role in roles}
    backend = tokenizer.backend_tokenizer
    # A folder of tokenizer.json alone names no roles; its model may say what stands for the unknown.
    name = tokenizer.unk_token or getattr(backend.model, "unk_token", None)
    unknown = None if name is None else backend.token_to_id(name)
    unknown = None if unknown in taken else unknown
    added = {number for number, token in backend.get_added_tokens_decoder().items() if token.special}
    return (added | set(tokenizer.all_special_ids)) - {unknown}, unknown


def _by_source(table: MappedTable, tokenizer: Any, max_tokens: int) -> dict[str, SourceFacts]:
    special, unknown = special_ids(tokenizer)
    found = {name: SourceFacts() for name in table.names("source")}
    names = list(found)
    for batch in table.batches:
        lengths, own, lost = _counted(batch, special, unknown)
        codes = batch.column("source").indices.to_numpy()
        cut = _cut(batch, lengths >= max_tokens, tokenizer, max_tokens)
        for code in np.unique(codes).tolist():
            here, one = codes == code, found[names[code]]
            one.texts += int(here.sum())
            one.tokens += int(own[here].sum())
            one.unknown += int(lost[here].sum())
            one.cut += int(cut[here].sum())
    return found


def _counted(
    batch: Any, special: set[int], unknown: int | None
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """For each row: all tokens, those of its text, and those unknown."""
    column = batch.column("input_ids")
    ids, lengths = column.flatten().to_numpy(), column.value_lengths().to_numpy()
    row = np.repeat(np.arange(len(lengths)), lengths)
    own = np.bincount(row, ~np.isin(ids, sorted(special)), len(lengths))
    return lengths, own, np.bincount(row, ids == (-1 if unknown is None else unknown), len(lengths))


def _cut(batch: Any, full: NDArray[np.bool_], tokenizer: Any, max_tokens: int) -> NDArray[np.bool_]:
    """bool for each row: of those that fill the limit, the ones whose text goes on."""
    cut = np.zeros(len(full), bool)
    rows = np.flatnonzero(full)
    if not len(rows):
        return cut
    texts = [batch.column("text")[row].as_py() for row in rows.tolist()]
    asked = "pair" in batch.schema.names
    pairs = [batch.column("pair")[row].as_py() for row in rows.tolist()] if asked else texts
    whole = tokenizer(pairs, texts if asked else None, truncation=True, max_length=max_tokens + 1)
    cut[rows] = [len(ids) > max_tokens for ids in whole["input_ids"]]
    return cut
