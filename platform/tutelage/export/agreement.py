"""How closely two runtimes agree on the same texts.

Legend: N examples, C classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class Agreement:
    """What `b` makes of the texts that `a` was asked."""

    share_same_label: float
    """Share of the N examples with the same largest logit, 0 to 1."""
    max_abs_diff: float
    """Largest absolute difference of any logit; infinite when one is not finite."""
    mean_kl: float
    """Mean KL(softmax(a) || softmax(b)) in nats; infinite when a logit is not finite."""
    mean_score_diff: float
    """Mean over the examples of the largest difference of a probability, 0 to 1; 1 where not finite."""
    max_score_diff: float
    """The largest of them."""
    examples: int


def agreement(a_NC: Array, b_NC: Array) -> Agreement:
    """Compare logits `b_NC` with the reference `a_NC`.

    An example with a logit that is not finite never counts as the same label.

    Raises:
        ValueError: no examples, or shapes that differ.
    """
    if a_NC.ndim != 2 or a_NC.shape != b_NC.shape or a_NC.size == 0:
        raise ValueError(f"logits have shapes {a_NC.shape} and {b_NC.shape}; both must be the same N x C")
    a, b = a_NC.astype(np.float64), b_NC.astype(np.float64)
    finite_N = np.isfinite(a).all(axis=1) & np.isfinite(b).all(axis=1)
    same_N = (a.argmax(axis=1) == b.argmax(axis=1)) & finite_N
    if not finite_N.all():
        return Agreement(float(same_N.mean()), math.inf, math.inf, 1.0, 1.0, len(a))
    log_p, log_q = _log_softmax(a), _log_softmax(b)
    p, q = np.exp(log_p), np.exp(log_q)
    kl_N = (p * (log_p - log_q)).sum(axis=1)
    apart_N = np.abs(p - q).max(axis=1)
    return Agreement(
        share_same_label=float(same_N.mean()),
        max_abs_diff=float(np.abs(a - b).max()),
        mean_kl=float(kl_N.mean()),
        mean_score_diff=float(apart_N.mean()),
        max_score_diff=float(apart_N.max()),
        examples=len(a),
    )


def _log_softmax(x_NC: NDArray[np.float64]) -> NDArray[np.float64]:
    shifted = x_NC - x_NC.max(axis=1, keepdims=True)
    result: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return result
