"""Heads of classifiers: one more row for each new class, or the nearest mean of features.

Shapes: N examples, H features before the last layer, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.models.load import set_labels


def last_layer(model: Any) -> tuple[str, nn.Linear]:
    """Name and module of the linear layer that gives the logits. Raises ModelError where there is none."""
    classes = int(model.config.num_labels)
    linear = [
        (n, m) for n, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == classes
    ]
    body = {id(module) for module in model.base_model.modules()}
    heads = [(name, module) for name, module in linear if id(module) not in body]
    if not heads:
        raise ModelError(
            f"{type(model).__name__} has no linear layer of {classes} outputs behind its body",
            fix="use a model whose head ends in a linear layer, or leave update.grow and update.head alone",
        )
    return heads[-1]


@torch.no_grad()
def grow(model: Any, labels: list[str], seed: int = 0) -> None:
    """Give a classifier more classes, in place; the first ones stay what they are, bit by bit.

    New rows start small and with a bias of 0, as a new head would; the generator of the caller is left alone.

    Args:
        labels: all classes; those of the model come first, in its order.
        seed: of the new rows.

    Raises:
        ModelError: no such head, or labels that do not continue the model's.
    """
    known = [model.config.id2label[index] for index in range(model.config.num_labels)]
    if labels[: len(known)] != known:
        raise ModelError(
            f"the model's classes are {known}, and {labels} does not continue them",
            fix="new classes go behind the old ones",
        )
    if len(labels) == len(known):
        return
    name, old = last_layer(model)
    # Its own start would draw from the caller's generator.
    new = nn.Linear(
        old.in_features, len(labels), bias=old.bias is not None, dtype=old.weight.dtype, device="meta"
    ).to_empty(device=old.weight.device)
    spread = float(getattr(model.config, "initializer_range", 0.02))
    drawn = torch.empty(new.weight.shape).normal_(std=spread, generator=torch.Generator().manual_seed(seed))
    new.weight.copy_(drawn)
    new.weight[: len(known)] = old.weight
    if old.bias is not None:
        new.bias.zero_()
        new.bias[: len(known)] = old.bias
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, new)
    set_labels(model.config, labels)
    if hasattr(model, "num_labels"):
        model.num_labels = len(labels)


@torch.no_grad()
def nearest_mean(model: Any, batches: Iterable[tuple[Callable[[], Any], Tensor]]) -> dict[int, int]:
    """Put the nearest mean of features in place of the last layer.

    |f - mu_c|^2 = |f|^2 - 2 (mu_c f - |mu_c|^2 / 2), so W = mu, b = -|mu|^2 / 2 has its largest logit
    where the mean is nearest. iCaRL (arXiv:1611.07725) normalises features first, which no linear layer
    can; this one exports as any other.

    Args:
        batches: (runs the model on a batch, labels int64 [B]; -1 is left out) each.

    Returns:
        Examples of each class. Raises ModelError when a class has none.
    """
    _, layer = last_layer(model)
    if layer.bias is None:
        raise ModelError("the head has no bias, and a nearest mean needs one", fix="update.head=trained")
    sums_CH = torch.zeros(layer.out_features, layer.in_features, dtype=torch.float64)
    counts_C = torch.zeros(layer.out_features, dtype=torch.long)
    for run, labels_B in batches:
        with _features(layer) as seen:
            run()
        known_B = labels_B >= 0
        sums_CH.index_add_(0, labels_B[known_B], seen[-1].double().cpu()[known_B])
        counts_C += torch.bincount(labels_B[known_B], minlength=len(counts_C))
    if not bool(counts_C.all()):
        missing = [model.config.id2label[int(c)] for c in (counts_C == 0).nonzero()[:, 0]]
        raise ModelError(
            f"no text of class {', '.join(missing)} to take a mean of",
            fix="keep replay, or update.head=trained",
        )
    means_CH = sums_CH / counts_C[:, None]
    layer.weight.copy_(means_CH)
    layer.bias.copy_(-means_CH.square().sum(1) / 2)
    return dict(enumerate(counts_C.tolist()))


@contextmanager
def _features(layer: nn.Linear) -> Any:
    """What the layer reads, [B, H] each time it is called."""
    seen: list[Tensor] = []
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    try:
        yield seen
    finally:
        handle.remove()
