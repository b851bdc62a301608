"""Gradients of each example of a batch, reduced over the batch without a backward pass for each.

A hook keeps what each layer read and what it gave. One backward pass gives the slope of the loss at every
output; from both follows the gradient of each example, summed over its tokens *before* it is squared:

    linear      G_n = sum_t slope_nt (x) input_nt            a product of matrices for each example
                sum_n G_n^2 = (slope^2)^T (input^2)          one product, where one token an example counts;
                                                             slope^2 of all labels are added before it
    embedding   rows of the same token of an example are added, then squared, then added to the table
    norm        sum_t slope_nt * normalised_nt
    convolution the linear rule on unfolded patches

Parameters that a model uses several times (tied embeddings, shared layers) are added over their uses first.
What no rule covers is found by comparing with autograd's own gradient, and goes example by example.

Shapes: B batch, T tokens or places of a layer, O outputs, I inputs, V rows of a table, H width.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Reduction = Literal["square", "abs", "sum"]
"""What is added up over examples: g^2, |g| or g."""

CHUNK_BYTES = 64 << 20
"""So much of the gradients of single examples is made at a time."""
TOLERANCE = 1e-3
"""Largest relative difference from autograd's gradient at which a rule is believed."""


@dataclass(eq=False)
class _Use:
    """One call of a layer."""

    module: nn.Module
    attribute: str
    given: Tensor
    output: Tensor


class PerExample:
    """Watches the layers of a model that hold the named parameters.

    Use it as a context manager around `forward` and `reduce`; the model itself is not changed.
    """

    def __init__(self, model: nn.Module, names: Collection[str] | None = None) -> None:
        """`names`: parameters that are asked for; all trainable ones when None."""
        self._model = model
        wanted = {n for n, p in model.named_parameters() if p.requires_grad} if names is None else set(names)
        parameters = dict(model.named_parameters())
        unknown = sorted(wanted - parameters.keys())
        if unknown:
            raise ValueError(f"the model has no parameter {unknown[0]}")
        self.parameters = {name: parameters[name] for name in parameters if name in wanted}
        self._name = {id(parameter): name for name, parameter in self.parameters.items()}
        self._uses: dict[str, list[_Use]] = defaultdict(list)
        self._alone: set[str] = set()
        self._checked = False
        self._examples = 0
        self._sums: dict[str, Tensor] = {}
        self._rows: dict[str, _Rows] = {}
        self._handles: list[Any] = []

    @property
    def one_by_one(self) -> set[str]:
        """Parameters that no rule covers, known after the first `reduce`."""
        return set(self._alone)

    def __enter__(self) -> PerExample:
        for module in self._model.modules():
            if not any(id(p) in self._name for p in module.parameters(recurse=False)):
                continue
            if isinstance(module, nn.Embedding):
                self._handles.append(module.register_forward_pre_hook(self._spread))
            self._handles.append(module.register_forward_hook(self._keep))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._finish_rows()
        self._uses.clear()

    @property
    def sums(self) -> dict[str, Tensor]:
        """All that was reduced so far, by name of parameter, fp32, shaped like it."""
        self._finish_rows()
        for name, parameter in self.parameters.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(parameter, dtype=torch.float32)
        return {name: self._sums[name] for name in self.parameters}

    def forward(self, call: Callable[[], Any], examples: int) -> Any:
        """Run the model on a batch of so many examples; layers are watched meanwhile."""
        self._finish_rows()
        self._uses.clear()
        self._examples = examples
        with torch.enable_grad():
            return call()

    def reduce(self, logits_PV: Tensor, slopes_PV: Tensor, examples_P: Tensor, how: Reduction) -> None:
        """Add what the examples of the last `forward` give to `sums`.

        Args:
            logits_PV: what `forward` gave.
            slopes_PV: of each example's loss at its logits.
            examples_P: the example that a position belongs to.
            how: what is added up.
        """
        if not self._checked:
            self._check(logits_PV, slopes_PV)
        for name, parameter in self.parameters.items():
            if name not in self._sums:
                self._sums[name] = torch.zeros_like(parameter, dtype=torch.float32)
        for name, reached in self._reached(logits_PV, slopes_PV).items():
            rows = _single_rows(reached, how)
            if rows is None:
                _add(self._sums[name], self.parameters[name], reached, how)
            elif name in self._rows and self._rows[name].at_the_same(rows):
                self._rows[name].slope_BO.add_(rows.slope_BO)
            else:
                self._finish_rows(name)
                self._rows[name] = rows
        if self._alone:
            self._one_by_one(logits_PV, slopes_PV, examples_P, how)

    def _finish_rows(self, *names: str) -> None:
        """Multiply the rows that were put aside with their inputs."""
        for name in names or tuple(self._rows):
            rows = self._rows.pop(name, None)
            if rows is not None:
                self._sums[name] += rows.product()

    def factors(self, logits_PV: Tensor, slopes_PV: Tensor) -> dict[str, tuple[Tensor, Tensor]]:
        """The two factors of each linear weight's gradient, for weights that are used once.

        Rows [R, O] and [R, I] fp32, one for each example and token: the gradient is the sum of products.
        """
        used = {name: uses[0] for name, uses in self._uses.items() if len(uses) == 1}
        linear = {
            n: u for n, u in used.items() if u.attribute == "weight" and isinstance(u.module, nn.Linear)
        }
        outputs = [use.output for use in linear.values()]
        found = torch.autograd.grad(logits_PV, outputs, slopes_PV, retain_graph=True, allow_unused=True)
        return {
            name: (rows.flatten(0, 1), columns.flatten(0, 1))
            for (name, use), slope in zip(linear.items(), found, strict=True)
            if slope is not None
            for rows, columns in (_factors(use.module, slope, use.given),)
        }

    def _reached(self, logits_PV: Tensor, slopes_PV: Tensor) -> dict[str, list[tuple[_Use, Tensor]]]:
        """Each parameter with its uses that have slopes; parameters with a rule only."""
        uses = {name: used for name, used in self._uses.items() if name not in self._alone}
        outputs = {id(use.output): use.output for used in uses.values() for use in used}
        if not outputs:
            return {}
        found = torch.autograd.grad(
            logits_PV, list(outputs.values()), slopes_PV, retain_graph=True, allow_unused=True
        )
        slope_of = dict(zip(outputs, found, strict=True))
        reached = {
            name: [(use, slope_of[id(use.output)]) for use in used if slope_of[id(use.output)] is not None]
            for name, used in uses.items()
        }
        return {name: used for name, used in reached.items() if used}

    def _one_by_one(self, logits_PV: Tensor, slopes_PV: Tensor, examples_P: Tensor, how: Reduction) -> None:
        """A backward pass for each example: slow, and right for any model."""
        left = [name for name in self.parameters if name in self._alone]
        parameters = [self.parameters[name] for name in left]
        for n in range(self._examples):
            own_PV = slopes_PV * (examples_P == n)[:, None]
            for name, gradient in zip(left, _gradients(logits_PV, parameters, own_PV), strict=True):
                self._sums[name] += _power(gradient.float(), how)

    def _check(self, logits_PV: Tensor, slopes_PV: Tensor) -> None:
        """Find the parameters whose rule does not give autograd's gradient."""
        frozen = [p for p in self.parameters.values() if not p.requires_grad]
        if frozen:
            raise ValueError("importance is of trainable parameters")
        names, parameters = list(self.parameters), list(self.parameters.values())
        truth = dict(zip(names, _gradients(logits_PV, parameters, slopes_PV), strict=True))
        ours: dict[str, Tensor] = {}
        for name, reached in self._reached(logits_PV, slopes_PV).items():
            ours[name] = torch.zeros_like(self.parameters[name], dtype=torch.float32)
            rows = _single_rows(reached, "sum")
            if rows is not None:
                ours[name] += rows.product()
            else:
                _add(ours[name], self.parameters[name], reached, "sum")
        scale = max(float(gradient.norm()) for gradient in truth.values()) if truth else 0.0
        for name, gradient in truth.items():
            if name in ours:
                off = float((ours[name] - gradient).norm())
            else:  # a layer that was called and does not reach the logits has no gradient
                off = float(gradient.norm()) if name in self._uses else float("inf")
            # Gradients of nearly nothing (a key's bias) are all rounding; they are held to the largest one.
            if not off <= TOLERANCE * max(float(gradient.norm()), 1e-3 * scale):
                self._alone.add(name)
        # Where no example has a slope nothing was compared.
        self._checked = scale > 0

    def _spread(self, module: nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...] | None:
        """A table asked once for all examples (positions) is asked for each of them."""
        ids = given[0]
        if ids.dim() and ids.shape[0] == 1 and self._examples > 1:
            return (ids.expand(self._examples, *ids.shape[1:]), *given[1:])
        return None

    def _keep(self, module: nn.Module, given: tuple[Any, ...], output: Any) -> None:
        if not isinstance(output, Tensor) or not given or not output.requires_grad:
            return
        if output.shape[0] != self._examples or not _has_rule(module):
            return
        for attribute, parameter in module.named_parameters(recurse=False):
            name = self._name.get(id(parameter))
            if name is not None:
                self._uses[name].append(_Use(module, attribute, given[0].detach(), output))


def _gradients(logits_PV: Tensor, parameters: list[nn.Parameter], slopes_PV: Tensor) -> list[Tensor]:
    found = torch.autograd.grad(logits_PV, parameters, slopes_PV, retain_graph=True, allow_unused=True)
    return [
        torch.zeros_like(parameter) if gradient is None else gradient
        for parameter, gradient in zip(parameters, found, strict=True)
    ]


def _power(gradient: Tensor, how: Reduction) -> Tensor:
    match how:
        case "square":
            return gradient.square()
        case "abs":
            return gradient.abs()
        case "sum":
            return gradient


def _over_examples(gradients_B: Tensor, how: Reduction) -> Tensor:
    """[B, ...] -> [...], in one pass over the memory."""
    match how:
        case "square":
            length: Tensor = torch.linalg.vector_norm(gradients_B, ord=2, dim=0)
            return length.square_()
        case "abs":
            absolute: Tensor = torch.linalg.vector_norm(gradients_B, ord=1, dim=0)
            return absolute
        case "sum":
            return gradients_B.sum(0)


@dataclass(eq=False)
class _Rows:
    """A linear weight of which each example reaches one row of slopes and one of inputs, to some power."""

    slope_BO: Tensor
    given_BI: Tensor
    at_B: Tensor | None
    """Which token of each example; None where there is only one."""
    transposed: bool

    def at_the_same(self, other: _Rows) -> bool:
        """Whether the inputs of both are the same rows."""
        if self.at_B is None or other.at_B is None:
            return self.at_B is other.at_B
        return bool(torch.equal(self.at_B, other.at_B))

    def product(self) -> Tensor:
        """Summed over examples, shaped as the weight."""
        product_OI = self.slope_BO.T @ self.given_BI
        return product_OI.T if self.transposed else product_OI


def _single_rows(reached: list[tuple[_Use, Tensor]], how: Reduction) -> _Rows | None:
    """The rows that count, where a linear weight is used once and no example has slopes at two tokens.

    So it is where a sequence is read at one token: the last layer's weights behind its attention.
    """
    (use, slope), *others = reached
    if others or use.attribute != "weight" or not _is_matrix(use.module):
        return None
    given, at_B = use.given, None
    if slope.dim() > 2:
        slope_BTO, given_BTI = slope.flatten(1, -2), given.flatten(1, -2)
        live_BT = (slope_BTO != 0).any(-1)
        if int(live_BT.sum(1).max()) > 1:
            return None
        at_B = live_BT.int().argmax(1)
        each_B = torch.arange(len(at_B), device=at_B.device)
        slope, given = slope_BTO[each_B, at_B], given_BTI[each_B, at_B]
    slope_BO, given_BI = _power(slope.float(), how), _power(given.float(), how)
    if how == "sum":
        slope_BO = slope_BO.clone()  # it is added to, and may be the caller's own
    return _Rows(slope_BO, given_BI, at_B, transposed=_is_transposed(use.module))


def _add(total: Tensor, parameter: Tensor, reached: list[tuple[_Use, Tensor]], how: Reduction) -> None:
    """Add the gradients of single examples to some power."""
    if len(reached) == 1:
        use, slope = reached[0]
        if isinstance(use.module, nn.Embedding):
            _add_embedding(total, use, slope, how)
            return
        if use.attribute == "weight" and slope.device.type == "cpu" and _is_matrix(use.module):
            _one_after_another(total, use, slope, how)
            return
    examples = len(reached[0][1])
    step = max(1, CHUNK_BYTES // (4 * parameter.numel()))
    for start in range(0, examples, step):
        part = slice(start, start + step)
        gradients = _gradient(reached[0][0], reached[0][1][part], reached[0][0].given[part], parameter)
        for use, slope in reached[1:]:
            gradients = gradients + _gradient(use, slope[part], use.given[part], parameter)
        total += _over_examples(gradients, how)


def _one_after_another(total: Tensor, use: _Use, slope: Tensor, how: Reduction) -> None:
    """A linear layer on many tokens: each example's gradient is added while it is still in the cache.

    On a CPU three to ten times faster than the gradients of all examples, written to memory and read again.
    Tokens behind the last one with a slope are padding, and left out.
    """
    rows_BTR, columns_BTC = _factors(use.module, slope, use.given)
    slope_BTO = slope.reshape(len(slope), -1, slope.shape[-1])
    counts_T = torch.arange(1, slope_BTO.shape[1] + 1)
    lengths: list[int] = ((slope_BTO != 0).any(-1) * counts_T).amax(1).tolist()
    gradient = torch.empty_like(total)
    for row_TR, column_TC, length in zip(rows_BTR, columns_BTC, lengths, strict=True):
        torch.mm(row_TR[:length].T, column_TC[:length], out=gradient)
        match how:
            case "square":
                total.addcmul_(gradient, gradient)
            case "abs":
                total.add_(gradient.abs_())
            case "sum":
                total.add_(gradient)


def _factors(module: nn.Module, slope: Tensor, given: Tensor) -> tuple[Tensor, Tensor]:
    """[B, T, rows] and [B, T, columns] of a weight whose gradient is the product of both."""
    slope_BTO = slope.float().reshape(len(slope), -1, slope.shape[-1])
    given_BTI = given.float().reshape(len(given), -1, given.shape[-1])
    return (given_BTI, slope_BTO) if _is_transposed(module) else (slope_BTO, given_BTI)


def _add_embedding(total: Tensor, use: _Use, slope: Tensor, how: Reduction) -> None:
    """The one use of a table: only rows of tokens that occur are touched."""
    ids_BT = use.given.reshape(len(slope), -1)
    rows, width = total.shape
    slope_RH = slope.reshape(-1, width).float()
    example_BT = torch.arange(len(ids_BT), device=ids_BT.device)[:, None].expand_as(ids_BT)
    cells, inverse = torch.unique((example_BT * rows + ids_BT).reshape(-1), return_inverse=True)
    summed_CH = slope_RH.new_zeros(len(cells), width).index_add_(0, inverse, slope_RH)
    ids_C = cells % rows
    if use.module.padding_idx is not None:
        summed_CH[ids_C == use.module.padding_idx] = 0  # autograd gives this row no gradient
    total.index_add_(0, ids_C, _power(summed_CH, how))


def _gradient(use: _Use, slope: Tensor, given: Tensor, parameter: Tensor) -> Tensor:
    """Gradient of each example [B, *parameter]."""
    module, slope = use.module, slope.float()
    batch = len(slope)
    if isinstance(module, nn.Embedding):
        return _dense_embedding(module, slope, given, parameter)
    given = given.float()
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return _convolution(module, use.attribute, slope, given)
    if use.attribute == "bias":
        return slope.reshape(batch, -1, slope.shape[-1]).sum(1)
    if _is_norm(module):
        return (slope * _normalised(module, given)).reshape(batch, -1, *parameter.shape).sum(1)
    rows_BTO, columns_BTI = _factors(module, slope, given)
    return torch.bmm(rows_BTO.transpose(1, 2), columns_BTI)


def _dense_embedding(module: nn.Embedding, slope: Tensor, ids: Tensor, parameter: Tensor) -> Tensor:
    batch, width = len(slope), parameter.shape[1]
    ids_BT = ids.reshape(batch, -1)
    slope_BTH = slope.reshape(batch, -1, width)
    if module.padding_idx is not None:
        slope_BTH = slope_BTH * (ids_BT != module.padding_idx)[..., None]
    empty = slope.new_zeros(batch, *parameter.shape)
    return empty.scatter_add_(1, ids_BT[..., None].expand(-1, -1, width), slope_BTH)


def _convolution(module: nn.Conv1d | nn.Conv2d, attribute: str, slope: Tensor, given: Tensor) -> Tensor:
    slope_BOL = slope.flatten(2)
    if attribute == "bias":
        return slope_BOL.sum(2)
    flat = isinstance(module, nn.Conv1d)
    one: tuple[int, ...] = (1,) if flat else ()
    none: tuple[int, ...] = (0,) if flat else ()
    patches_BPL = F.unfold(
        given[:, :, None] if flat else given,
        (*one, *module.kernel_size),
        (*one, *module.dilation),
        (*none, *module.padding),
        (*one, *module.stride),
    )
    return torch.bmm(slope_BOL, patches_BPL.transpose(1, 2)).reshape(len(slope), *module.weight.shape)


def _has_rule(module: nn.Module) -> bool:
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        return module.groups == 1 and module.padding_mode == "zeros" and not isinstance(module.padding, str)
    return _is_matrix(module) or isinstance(module, nn.Embedding) or _is_norm(module)


def _is_matrix(module: nn.Module) -> bool:
    return isinstance(module, nn.Linear) or _is_transposed(module)


def _is_transposed(module: nn.Module) -> bool:
    """GPT-2's linear layer, whose weight is [I, O]."""
    return type(module).__name__ == "Conv1D" and type(module).__module__.startswith("transformers")


def _is_norm(module: nn.Module) -> bool:
    """Numbers that are scaled one by one; MobileBERT's NoNorm does nothing else."""
    return isinstance(module, nn.LayerNorm) or type(module).__name__.endswith(("RMSNorm", "NoNorm"))


def _normalised(module: nn.Module, given: Tensor) -> Tensor:
    if isinstance(module, nn.LayerNorm):
        return F.layer_norm(given, module.normalized_shape, eps=module.eps)
    if type(module).__name__ == "NoNorm":
        return given
    eps = next((getattr(module, key) for key in ("variance_epsilon", "eps") if hasattr(module, key)), None)
    return F.rms_norm(given, given.shape[-1:], eps=eps)
