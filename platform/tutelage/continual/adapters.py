"""The penalty of a model with low-rank adapters, on the weights they make.

The Fisher information of the factors A and B says nothing: for any invertible R the pair (B R, R^-1 A) is the
same model, with another diagonal. So the penalty is of the merged weight W + s B A, by the importance of W:

    1/2 sum k (W + s B A - theta*)^2

It is part of the loss. Its gradient needs no masters: B A is itself the difference from W, and nothing
cancels.

Shapes: O outputs, I inputs, r rank.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tutelage.continual.anchors import grown

_BASE, _COPY = ".base_layer", ".modules_to_save.default"
"""How peft calls a weight under an adapter, and one that is trained in full."""


class AdapterPenalty:
    """Sums over the adapters of a peft model, and over what is trained in full beside them."""

    def __init__(
        self, model: Any, strength: Mapping[str, Tensor], center: Mapping[str, Tensor], device: torch.device
    ) -> None:
        """`strength` and `center` by the names of the plain model."""
        self._adapted: list[tuple[Any, Tensor, Tensor]] = []
        self._whole: list[tuple[Tensor, Tensor, Tensor]] = []
        for name, module in model.named_modules():
            plain = f"{plain_name(name)}.weight"
            if hasattr(module, "lora_A") and plain in strength:
                apart = module.base_layer.weight.detach().float().cpu() - center[plain]
                self._adapted.append((module, strength[plain].to(device), apart.to(device)))
        for name, parameter in model.named_parameters():
            plain = plain_name(name)
            if parameter.requires_grad and plain in strength:
                k, star = (grown(values[plain], parameter.shape).to(device) for values in (strength, center))
                self._whole.append((parameter, k, star))

    def loss(self) -> Tensor:
        """The penalty, fp32, with a gradient for factors and whole weights."""
        parts = [0.5 * (k * (theta.float() - star).square()).sum() for theta, k, star in self._whole]
        for module, k_OI, apart_OI in self._adapted:
            delta_OI = apart_OI
            for name, a_rI in module.lora_A.items():
                product_OI = module.lora_B[name].weight.float() @ a_rI.weight.float()
                if module.fan_in_fan_out:  # GPT-2's layers keep W as [I, O]
                    product_OI = product_OI.T
                delta_OI = delta_OI + module.scaling[name] * product_OI
            parts.append(0.5 * (k_OI * delta_OI.square()).sum())
        return torch.stack(parts).sum() if parts else torch.zeros(())


def plain_name(name: str) -> str:
    """A parameter's or module's name without what peft puts around it."""
    return name.removeprefix("base_model.model.").replace(_BASE, "").replace(_COPY, "")
