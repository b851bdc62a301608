"""How many tokens of a text a model has places for.

A table of positions may hold rows that stand for no position: RoBERTa and its like begin behind the padding
token, so 514 rows are 512 places. Models that add no position to a token, but look at distances, take any
length. For rotary positions the config's number is the longest text of the training: beyond it a model runs
without having learned to, so it counts as the limit.
"""

from __future__ import annotations

from typing import Any

_BEHIND_PADDING = frozenset(
    {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "roberta-prelayernorm", "data2vec-text"}
    | {"longformer", "ibert", "xmod", "esm", "lilt", "layoutlmv3", "luke", "markuplm"}
)
"""Families whose position ids start at pad_token_id + 1."""
_BY_DISTANCE = frozenset(
    {"t5", "mt5", "umt5", "longt5", "switch_transformers", "xlnet", "funnel", "bloom", "mpt", "transfo-xl"}
)
"""Families without places: attention knows distances alone."""


def usable_tokens(config: Any) -> int | None:
    """The longest text in tokens, special ones included, that a model of this config reads; None for any."""
    kind = str(config.model_type)
    if kind in _BY_DISTANCE or (kind == "falcon" and getattr(config, "alibi", False)):
        return None
    if kind in ("deberta", "deberta-v2") and not getattr(config, "position_biased_input", True):
        return None
    rows = getattr(config, "max_position_embeddings", None) or getattr(config, "n_positions", None)
    if not isinstance(rows, int) or rows <= 0:
        return None
    return rows - rows_before(config)


def rows_before(config: Any, pad: int | None = None) -> int:
    """Rows of the position table that stand for no position; `pad` instead of the config's padding token."""
    if config.model_type == "mpnet":
        return 2  # its padding row is 1, whatever the config says
    if config.model_type not in _BEHIND_PADDING:
        return 0
    own = config.pad_token_id if pad is None else pad
    return int(own or 0) + 1
