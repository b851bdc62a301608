"""What a causal-lm predicts: one vocabulary for teachers and student, and the layer that reaches it.

Shapes: V vocabulary, H hidden, T tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from tutelage.errors import ModelError

_PROBE_TOKENS = 16
_TOLERANCE = 1e-4
"""Largest difference, as a share of the largest logit, that counts as rounding."""


def check_vocabulary(key: str, student: Any, teacher: Any) -> int:
    """V, the number of token ids that both tokenizers know.

    Embeddings may be padded beyond V, each model's as it likes; token ids must mean the same.

    Args:
        key: of the teacher, in messages.
        student: the student's tokenizer.
        teacher: the teacher's tokenizer.

    Raises:
        ModelError: another size, or a token that means something else; it names the first one.
    """
    ours, theirs = _tokens(student), _tokens(teacher)
    if ours == theirs:
        return 1 + max(ours)
    sizes = f"{len(ours)} tokens, the teacher's {len(theirs)}"
    first = min(number for number in {*ours, *theirs} if ours.get(number) != theirs.get(number))
    raise ModelError(
        f"{key}: for causal-lm both need one vocabulary; the student's tokenizer has {sizes}; "
        f"the first that differs is {first}: {_shown(ours, first)} against {_shown(theirs, first)}",
        fix="take a teacher of the student's model family, or distil by another task's text",
    )


def _tokens(tokenizer: Any) -> dict[int, str]:
    return {int(number): str(token) for token, number in tokenizer.get_vocab().items()}


def _shown(tokens: dict[int, str], number: int) -> str:
    return repr(tokens[number]) if number in tokens else "none"


@torch.no_grad()
def vocabulary_head(model: Any, vocabulary: int | None = None) -> Tensor:
    """fp32 [V, H]: logits are the last hidden state times this, transposed; all rows when V is not given.

    A constant factor on the logits is multiplied in. The model is asked with a few tokens to see that
    it holds.

    Raises:
        ModelError: the logits are no plain product: there is a bias, a soft cap, or no output layer.
    """
    name = type(model).__name__
    head = model.get_output_embeddings()
    if head is None:
        raise _no_head(name, "has no output layer over a vocabulary")
    if getattr(head, "bias", None) is not None and bool((head.bias != 0).any()):
        raise _no_head(name, "adds a bias to its logits")
    text = model.config.get_text_config()
    if getattr(text, "final_logit_softcapping", None):
        raise _no_head(name, f"caps its logits at {text.final_logit_softcapping}")
    weights_VH: Tensor = head.weight.detach()
    count = min(_PROBE_TOKENS, weights_VH.shape[0])
    ids_1T = torch.arange(count, device=model.device)[None]
    linear_TV = model.base_model(input_ids=ids_1T).last_hidden_state[0].float() @ weights_VH.float().T
    logits_TV = model(input_ids=ids_1T).logits[0].float()
    size = logits_TV.abs().max()
    factor = (logits_TV * linear_TV).sum() / (linear_TV * linear_TV).sum()
    tolerance = _TOLERANCE if model.dtype == torch.float32 else 0.05
    if not bool((logits_TV - factor * linear_TV).abs().max() <= tolerance * size):
        raise _no_head(name, "does not make its logits by one product with the last hidden state")
    scale = 1.0 if abs(float(factor) - 1) < tolerance else float(factor)
    return (weights_VH.float() * scale)[:vocabulary]


def _no_head(name: str, why: str) -> ModelError:
    return ModelError(
        f"{name} {why}, so its hidden states do not give its logits",
        fix="use another payload than hidden for this teacher",
    )
