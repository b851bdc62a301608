"""The padding token of an exported folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tutelage.tokenizer import CONFIG_FILE


def read_pad_id(folder: Path, tokenizer: Any) -> int:
    """The id that the model knows as padding: some models derive positions from it, mask or not."""
    known = _read(folder / "config.json").get("pad_token_id")
    if known is not None:
        return int(known)
    sign = _read(folder / CONFIG_FILE).get("pad_token")
    sign = sign.get("content") if isinstance(sign, dict) else sign
    found = tokenizer.token_to_id(sign) if isinstance(sign, str) else None
    return int(found or tokenizer.token_to_id("[PAD]") or 0)


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
