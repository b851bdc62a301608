"""Finding, cutting and freezing the encoder layers of any transformers architecture.

Shapes: L layers.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from tutelage.errors import ModelError


def encoder_layers(model: Any) -> tuple[nn.Module, str, nn.ModuleList]:
    """The list of the L encoder layers, and the module and attribute that hold it.

    Raises ModelError when the architecture has no such list (ALBERT shares one layer).
    """
    count = model.config.num_hidden_layers
    for parent in model.base_model.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.ModuleList) and len(child) == count:
                return parent, name, child
    raise ModelError(
        f"{type(model).__name__} has no list of {count} encoder layers",
        fix="leave out layers and freeze_layers for this architecture",
    )


def keep_layers(model: Any, keep: list[int]) -> None:
    """Cut the model, in place, to these layers; the config then says so."""
    parent, name, layers = encoder_layers(model)
    if keep[-1] >= len(layers):
        raise ModelError(f"student.layers {keep}: the model has {len(layers)}", fix="name layers it has")
    setattr(parent, name, nn.ModuleList([layers[index] for index in keep]))
    model.config.num_hidden_layers = len(keep)
    kinds = getattr(model.config, "layer_types", None)
    if kinds:
        model.config.layer_types = [kinds[index] for index in keep]
    # A decoder's layers find their part of the cache by this number when they generate.
    for number, layer in enumerate(getattr(parent, name)):
        for module in layer.modules():
            if hasattr(module, "layer_idx"):
                module.layer_idx = number


def freeze(model: Any, *, embeddings: bool, layers: int) -> None:
    """Switch off gradients of the embeddings and of the lowest layers, in place."""
    if embeddings:
        block = getattr(model.base_model, "embeddings", None) or model.get_input_embeddings()
        block.requires_grad_(False)
    if layers:
        _, _, blocks = encoder_layers(model)
        if layers > len(blocks):
            raise ModelError(
                f"freeze_layers {layers}: the model has {len(blocks)} layers",
                fix=f"freeze_layers={len(blocks)} or less",
            )
        for block in list(blocks)[:layers]:
            block.requires_grad_(False)
