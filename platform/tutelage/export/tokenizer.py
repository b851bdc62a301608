"""The tokenizer of an exported folder: `tokenizer.json` through the tokenizers library, nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tutelage.errors import ModelError

FILE = "tokenizer.json"


def read_tokenizer(folder: Path, max_tokens: int) -> Any:
    """A `tokenizers.Tokenizer` that cuts at `max_tokens` and pads nothing. Raises ModelError."""
    from tokenizers import Tokenizer

    file = folder / FILE
    if not file.is_file():
        raise ModelError(
            f"{folder} holds no {FILE}",
            fix=f"export a student whose tokenizer is a fast one (`{FILE}` in its folder)",
        )
    try:
        tokenizer = Tokenizer.from_file(str(file))
    except Exception as problem:  # tokenizers raises bare Exception for a broken file
        raise ModelError(f"{file} is not a tokenizer: {problem}", fix="export the version again") from problem
    tokenizer.no_padding()
    tokenizer.enable_truncation(max_length=max_tokens)
    return tokenizer


def read_pad_id(folder: Path, tokenizer: Any) -> int:
    """The id that the model knows as padding: some models derive positions from it, mask or not."""
    try:
        known = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("pad_token_id")
    except (OSError, ValueError):
        known = None
    if known is None:
        known = tokenizer.token_to_id("[PAD]")
    return int(known or 0)
