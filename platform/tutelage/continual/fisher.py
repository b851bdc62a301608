"""How much each weight matters for what a model knows: the diagonal of its Fisher information, or MAS.

Fisher (Kirkpatrick et al. 2017, arXiv:1612.00796; modes after van de Ven 2025, arXiv:2502.11756):

    F = 1/N sum_n E_y [ (d log p(y | x_n) / d theta)^2 ]

* `exact`: the expectation over all V labels. The V gradients of an example span only V - 1 directions: with
  L L^T = diag(p) - p p^T the columns of L give the same sum of squares, so V - 1 backward passes do (one for
  two classes). Labels of the data are not looked at.
* `sampled`: one label drawn from the model, unbiased; for large vocabularies.
* `empirical`: the data's own label. Not the Fisher information where the model is sure or wrong.

Examples of several positions (tokens, spans): `per` = "sequence" squares the gradient of the whole example,
"token" adds the squares of single positions, by one pass with random signs, whose cross terms have mean 0.
Both have the same mean where labels are drawn from the model.

MAS (Aljundi et al. 2018, arXiv:1711.09601): 1/N sum_n |d ||z(x_n)||^2 / d theta|, z the logits.

The pass runs in evaluation mode, without clipping, loss scale or penalty, and squares gradients of single
examples in fp32. Sums and numbers of examples are added, so parts made anywhere merge.

Shapes: B batch, P positions, V classes or vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from tutelage.continual.importance import Importance
from tutelage.continual.kfac import BatchBlocks
from tutelage.continual.per_example import PerExample, Reduction

Mode = Literal["exact", "sampled", "empirical"]
Per = Literal["sequence", "token"]


@dataclass(frozen=True, eq=False)
class Scored:
    """A model's answer to one batch."""

    logits_PV: Tensor
    labels_P: Tensor | None = None
    """-1 where there is none; only `empirical` looks."""
    examples_P: Tensor | None = None
    """The example in B that a position belongs to; one position each when None."""
    examples: int | None = None
    """B; as many as positions when None."""


Slopes = Callable[[Tensor, Scored], Iterator[Tensor]]


def fisher(
    model: nn.Module,
    batches: Iterable[tuple[int, Any]],
    score: Callable[[Any], Scored],
    *,
    mode: Mode = "exact",
    per: Per = "sequence",
    seed: int = 0,
    names: Collection[str] | None = None,
    blocks: bool = False,
) -> Importance:
    """Sums of squared gradients of single examples, by name of parameter.

    Args:
        model: its mode is put back afterwards, its .grad is not touched.
        batches: (examples, batch) each.
        score: runs the model on a batch.
        mode: over which labels.
        per: what is squared where an example has several positions.
        seed: of drawn labels and signs.
        names: parameters to look at; all trainable ones when None.
        blocks: also the Kronecker factors of linear weights; see `tutelage.continual.kfac`.
    """
    generator = torch.Generator().manual_seed(seed)

    def slopes(logits_PV: Tensor, scored: Scored) -> Iterator[Tensor]:
        signs_P1 = None
        if per == "token" and scored.examples not in (None, len(logits_PV)):
            drawn_P = torch.randint(0, 2, (len(logits_PV),), generator=generator)
            signs_P1 = (drawn_P * 2 - 1)[:, None].to(logits_PV)
        for slopes_PV in _directions(logits_PV, scored, mode, generator):
            yield slopes_PV if signs_P1 is None else slopes_PV * signs_P1

    found = _add_up(
        model, batches, score, slopes, "square", names, labelled=mode == "empirical", blocks=blocks
    )
    kind = "kfac" if blocks else "fisher"
    return Importance(found.sums, found.examples, {"kind": kind, "mode": mode, "per": per})


def mas(
    model: nn.Module,
    batches: Iterable[tuple[int, Any]],
    score: Callable[[Any], Scored],
    *,
    names: Collection[str] | None = None,
) -> Importance:
    """Sums of absolute gradients of the squared norm of single examples' logits."""

    def slopes(logits_PV: Tensor, scored: Scored) -> Iterator[Tensor]:
        yield 2 * logits_PV

    found = _add_up(model, batches, score, slopes, "abs", names)
    return Importance(found.sums, found.examples, {"kind": "mas"})


def _add_up(
    model: nn.Module,
    batches: Iterable[tuple[int, Any]],
    score: Callable[[Any], Scored],
    slopes: Slopes,
    how: Reduction,
    names: Collection[str] | None,
    *,
    labelled: bool = False,
    blocks: bool = False,
) -> Importance:
    factors: dict[str, Tensor] = {}
    examples, training = 0, model.training
    model.eval()
    try:
        with PerExample(model, names) as watched:
            for count, batch in batches:
                scored = watched.forward(lambda batch=batch: score(batch), count)  # type: ignore[misc]
                logits_PV = scored.logits_PV
                owners_P = scored.examples_P
                if owners_P is None:
                    owners_P = torch.arange(len(logits_PV), device=logits_PV.device)
                own = BatchBlocks()
                for slopes_PV in slopes(logits_PV.detach().float(), scored):
                    given_PV = slopes_PV.to(logits_PV.dtype)
                    watched.reduce(logits_PV, given_PV, owners_P, how)
                    if blocks:
                        own.add(watched.factors(logits_PV, given_PV))
                for name, value in own.sums().items():
                    factors[name] = factors[name] + value if name in factors else value
                examples += _counted(scored, count, owners_P, labelled)
            return Importance(watched.sums | factors, examples)
    finally:
        model.train(training)


def _counted(scored: Scored, count: int, owners_P: Tensor, labelled: bool) -> int:
    """Examples that the sums are of: with `labelled` those with a label."""
    if not labelled or scored.labels_P is None:
        return count
    return len(set(owners_P[scored.labels_P >= 0].tolist()))


def _directions(
    logits_PV: Tensor, scored: Scored, mode: Mode, generator: torch.Generator
) -> Iterator[Tensor]:
    """Slopes at the logits whose squared gradients add up to the mode's expectation, [P, V] each."""
    match mode:
        case "exact":
            yield from label_directions(logits_PV)
        case "sampled":
            p_PV = torch.softmax(logits_PV, -1)
            drawn_P = torch.multinomial(p_PV.cpu(), 1, generator=generator)[:, 0].to(logits_PV.device)
            yield _towards(p_PV, drawn_P)
        case "empirical":
            if scored.labels_P is None:
                raise ValueError("the empirical Fisher needs labels")
            labels_P = scored.labels_P.to(logits_PV.device)
            known_P1 = (labels_P >= 0)[:, None]
            yield _towards(torch.softmax(logits_PV, -1), labels_P.clamp_min(0)) * known_P1


def _towards(p_PV: Tensor, labels_P: Tensor) -> Tensor:
    """d log p(y) / d z = onehot(y) - p."""
    slopes_PV = -p_PV
    slopes_PV[torch.arange(len(labels_P), device=p_PV.device), labels_P] += 1
    return slopes_PV


def label_directions(logits_PV: Tensor) -> Iterator[Tensor]:
    """The V - 1 columns of the Cholesky factor of diag(p) - p p^T (Tanabe and Sagae 1992), [P, V] each.

    With the tails q_k = sum_{j > k} p_j: L_kk = sqrt(p_k q_k / q_{k-1}), and below it
    L_ik = -p_i sqrt(p_k / (q_{k-1} q_k)).
    """
    p_PV = torch.softmax(logits_PV.double(), -1)
    from_here_PV = p_PV.flip(-1).cumsum(-1).flip(-1)
    classes = p_PV.shape[-1]
    for k in range(classes - 1):
        here_P, tail_P = from_here_PV[:, k].clamp_min(1e-300), from_here_PV[:, k + 1].clamp_min(1e-300)
        column_PV = torch.zeros_like(p_PV)
        column_PV[:, k] = torch.sqrt(p_PV[:, k] * tail_P / here_P)
        # p_i / sqrt(q_k) first: both may be 0 together, and it is never above sqrt(q_k).
        rest_PV = p_PV[:, k + 1 :] / tail_P.sqrt()[:, None]
        column_PV[:, k + 1 :] = -rest_PV * torch.sqrt(p_PV[:, k] / here_P)[:, None]
        yield column_PV.to(logits_PV.dtype)
