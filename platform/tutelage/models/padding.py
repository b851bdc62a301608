"""Which token fills a batch, and at which side.

Models look at it: RoBERTa counts positions from it, and a decoder that classifies answers from the last token
that is none. So config and tokenizer must agree, and the config's counts where both name one.
"""

from __future__ import annotations

from typing import Any, Literal

from tutelage.config.task import TaskName
from tutelage.errors import ModelError

_READ_PADDING = frozenset({"convbert", "fnet", "nystromformer", "yoso", "mra", "funnel"})
"""Families that mix rows with what fills them, mask or not: convolutions, Fourier transforms, landmarks."""


def reads_padding(config: Any) -> bool:
    """Whether an answer depends on how far the row is filled up, and so on the texts beside it."""
    return str(config.model_type) in _READ_PADDING


def padding_side(config: Any) -> Literal["left", "right"]:
    """Where the padding goes: in front for XLNet, which answers from the last place of a row."""
    return "left" if config.model_type == "xlnet" else "right"


def padding_token(config: Any, tokenizer: Any) -> int:
    """Id of the padding token; 0 where neither names one, which a mask hides."""
    known = getattr(config, "pad_token_id", None)
    return int((tokenizer.pad_token_id if known is None else known) or 0)


def settle_padding(model: Any, tokenizer: Any) -> int:
    """The padding token's id. A config without one gets the tokenizer's, in place."""
    if getattr(model.config, "pad_token_id", None) is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    return padding_token(model.config, tokenizer)


def check_padding(key: str, config: Any, tokenizer: Any, task: TaskName) -> None:
    """Raise ModelError where a classifier of texts could not tell padding from text."""
    if task != "sequence-classification" or tokenizer.pad_token_id is not None:
        return
    if getattr(config, "pad_token_id", None) is None:
        raise ModelError(
            f"{key}: neither config.json nor the tokenizer names a padding token, so texts of different "
            "length cannot be told apart in a batch",
            fix='write "pad_token" into tokenizer_config.json, for a decoder that of "eos_token"',
        )
