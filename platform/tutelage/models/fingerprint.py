"""What makes two teachers the same teacher: weights, tokenizer, label order, settings, and the code."""

from __future__ import annotations

from pathlib import Path

from tutelage.files import digest_file, digest_text
from tutelage.semantics import SIGNALS

_PARTS = (
    "*.safetensors",
    "config.json",
    "tokenizer*",
    "vocab*",
    "merges.txt",
    "special_tokens_map.json",
    "*.model",
)


def fingerprint(model: str | Path, tokenizer: str | Path, *settings: object) -> str:
    """16 hex digits over the files that decide a logit, and the settings that go with them."""
    parts = [f"signals {SIGNALS}", *(str(setting) for setting in settings)]
    for folder in (Path(model), Path(tokenizer)):
        files = sorted({path for pattern in _PARTS for path in folder.glob(pattern)})
        parts += [f"{path.name}={digest_file(path)}" for path in files]
    return digest_text(*parts)[:16]
