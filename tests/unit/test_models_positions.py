"""The limit that is said of a model is the longest text it reads; one token more is too long for it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tutelage.models.describe import describe
from tutelage.models.load import load_classifier
from tutelage.models.positions import usable_tokens
from tutelage.testing import FAMILIES, each_config, tiny_family

pytestmark = pytest.mark.unit

ROTARY = {"ModernBertConfig", "LlamaConfig", "Qwen2Config", "MistralConfig", "GemmaConfig"}
"""They run beyond their limit, which is the longest text of their training."""
ANY_LENGTH = {"DebertaV2Config", "XLNetConfig", "T5Config", "BloomConfig"}


def answer(model: Any, tokens: int) -> torch.Tensor:
    """Logits of one row of words; some families read the end token, which stands last."""
    ids_BT = torch.full((1, tokens), 7)
    if model.config.is_encoder_decoder:
        ids_BT[0, -1] = model.config.eos_token_id
    with torch.inference_mode():
        logits: torch.Tensor = model(input_ids=ids_BT, attention_mask=torch.ones_like(ids_BT)).logits
    return logits


@pytest.mark.parametrize("name", [name for name in each_config() if name != "nystromformer"])
def test_a_model_reads_texts_up_to_its_limit_and_none_beyond(name: str, tmp_path: Path) -> None:
    positions = 29
    model = load_classifier(tiny_family(name, tmp_path, positions=positions))
    limit, kind = usable_tokens(model.config), FAMILIES[name].config
    assert describe(tmp_path).positions == limit == (None if kind in ANY_LENGTH else positions)
    assert torch.isfinite(answer(model, positions)).all()
    if kind in ROTARY or limit is None:
        assert torch.isfinite(answer(model, 3 * positions)).all()
        return
    with pytest.raises((IndexError, RuntimeError)):
        answer(model, limit + 1)


@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("deberta-v2", {"position_biased_input": True}, 24),
        ("deberta-v2", {"position_biased_input": False}, None),
        ("roberta", {"pad_token_id": 5}, 20),
        ("roberta", {"pad_token_id": 0}, 25),
    ],
)
def test_what_the_config_says_of_positions_is_taken_into_account(
    name: str, options: dict[str, Any], limit: int | None, tmp_path: Path
) -> None:
    model = load_classifier(tiny_family(name, tmp_path, positions=24, options=options))
    assert usable_tokens(model.config) == limit
    if limit is not None:
        assert torch.isfinite(answer(model, limit)).all()
        with pytest.raises((IndexError, RuntimeError)):
            answer(model, limit + 1)
