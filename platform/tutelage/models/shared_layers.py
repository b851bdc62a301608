"""Models that are the same up to some layer run those layers once for all of them.

Teachers are often fine-tuned from one base with its lowest layers frozen, or differ in the head alone. In one
process such models hold these layers once, and each layer remembers what it gave for what it was called
with: who comes second takes the result. A layer in evaluation mode is a function of its weights and its
arguments, so the bits are those of a model alone; nothing is assumed of how an architecture feeds its layers.

Shapes: B batch, T tokens, H hidden.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from tutelage.errors import ModelError
from tutelage.models.layers import encoder_layers

BUDGET_BYTES = 256 * 2**20
"""Remembered results of one process. Models that run at the same time need few; one that lags recomputes."""

_NAMES = {"architectures", "_name_or_path", "id2label", "label2id", "problem_type", "dtype", "torch_dtype"}
_NAMES |= {"transformers_version", "finetuning_task", "use_cache"}


class SharedLayers:
    """The models of one process. `add` and the layers themselves may be called from any thread."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._models: list[Any] = []
        self._memory = _Memory(budget_bytes)
        self._adding = threading.Lock()

    def add(self, model: Any) -> int:
        """Let a model, in evaluation mode, use the layers of an earlier one, as far as they are the same.

        Returns how many layers it shares, from the first on; 0 for one that is like no other. Models that
        are in use may go on meanwhile.
        """
        with self._adding:
            try:
                own = encoder_layers(model)[2]
            except ModelError:
                return 0
            shared, like = max(
                ((_same_layers(other, model), place) for place, other in enumerate(self._models)),
                key=lambda found: found[0],
                default=(0, 0),
            )
            self._models.append(model)
            if shared:
                self._join(self._models[like], model, own, shared)
            return shared

    @property
    def computed(self) -> int:
        """Calls of shared layers that were computed."""
        return self._memory.computed

    @property
    def recalled(self) -> int:
        """Calls of shared layers that took an earlier result."""
        return self._memory.recalled

    @property
    def held_bytes(self) -> int:
        """Bytes of results that another model may still ask for."""
        return self._memory.held_bytes

    def _join(self, other: Any, model: Any, own: nn.ModuleList, shared: int) -> None:
        theirs = encoder_layers(other)[2]
        for place in range(shared):
            layer = theirs[place]
            if not isinstance(layer.forward, _Remembered):
                layer.forward = _Remembered(layer.forward, self._memory)
            layer.forward.users += 1
            own[place] = layer
        model.set_input_embeddings(other.get_input_embeddings())


def _same_layers(one: Any, two: Any) -> int:
    """The layers, from the first on, in which both compute the same function of the same input."""
    alike = type(one.base_model) is type(two.base_model) and _shape(one.config) == _shape(two.config)
    if not alike or not _equal(one.get_input_embeddings(), two.get_input_embeddings()):
        return 0
    count = 0
    for mine, other in zip(encoder_layers(one)[2], encoder_layers(two)[2], strict=True):
        if not _equal(mine, other):
            break
        count += 1
    return count


def _shape(config: Any) -> dict[str, Any]:
    """What decides a layer's function besides its weights; dropout is off in evaluation mode."""
    found: dict[str, Any] = config.to_dict()
    return {
        key: value
        for key, value in found.items()
        if key not in _NAMES and "dropout" not in key and not key.endswith("pdrop")
    }


def _equal(one: nn.Module, two: nn.Module) -> bool:
    """Whether two modules of one kind have the same weights, to the bit."""
    if type(one) is not type(two):
        return False
    mine, other = one.state_dict(), two.state_dict()
    return mine.keys() == other.keys() and all(_alike(mine[name], other[name]) for name in mine)


def _alike(one: Tensor, two: Tensor) -> bool:
    if one is two:
        return True
    known = one.dtype == two.dtype and one.device == two.device and one.shape == two.shape
    return known and torch.equal(one, two)


@dataclass(eq=False)
class _Entry:
    """One call of one layer."""

    owner: _Remembered
    plain: list[Any]
    tensors: list[Tensor]
    result: Future[Any] = field(default_factory=Future)
    taken: int = 1

    def answers(self, owner: _Remembered, plain: list[Any], tensors: list[Tensor]) -> bool:
        """Whether a call of the layer with these arguments would give the same."""
        return (
            self.owner is owner
            and self.plain == plain
            and all(_alike(mine, other) for mine, other in zip(self.tensors, tensors, strict=True))
        )

    @property
    def size(self) -> int:
        """Bytes that it keeps alive; those of one tensor in two entries count twice."""
        found: list[Tensor] = list(self.tensors)
        _flatten(self.result.result(), [], found)
        return sum(tensor.nbytes for tensor in found)


class _Memory:
    """Results that other models will ask for. The oldest go when there are too many bytes."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._entries: deque[_Entry] = deque()
        self.held_bytes = 0
        self._lock = threading.Lock()
        self.computed = 0
        self.recalled = 0

    def find(self, owner: _Remembered, plain: list[Any], tensors: list[Tensor]) -> tuple[_Entry, bool]:
        """The entry of this call, and whether the caller is the one to compute it."""
        with self._lock:
            for entry in self._entries:
                if entry.answers(owner, plain, tensors):
                    entry.taken += 1
                    if entry.taken >= owner.users and entry.result.done():
                        self._forget(entry)
                    self.recalled += 1
                    return entry, False
            entry = _Entry(owner, plain, tensors)
            self._entries.append(entry)
            self.computed += 1
            return entry, True

    def keep(self, entry: _Entry, result: Any) -> None:
        """The call is done: hand its result to who waits and who will come."""
        with self._lock:
            entry.result.set_result(result)
            self.held_bytes += entry.size
            if entry.taken >= entry.owner.users:
                self._forget(entry)
            while self.held_bytes > self._budget:
                self._forget(next(each for each in self._entries if each.result.done()))

    def fail(self, entry: _Entry, error: BaseException) -> None:
        """The call failed: who waits must compute it without this memory."""
        with self._lock:
            self._entries.remove(entry)
            entry.result.set_exception(error)

    def _forget(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self.held_bytes -= entry.size


class _Remembered:
    """A layer's forward for several models."""

    def __init__(self, forward: Callable[..., Any], memory: _Memory) -> None:
        self._forward = forward
        self._memory = memory
        self.users = 1

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plain: list[Any] = []
        tensors: list[Tensor] = []
        if torch.is_grad_enabled() or not _flatten([args, kwargs], plain, tensors):
            return self._forward(*args, **kwargs)
        entry, first = self._memory.find(self, plain, tensors)
        if first:
            try:
                result = self._forward(*args, **kwargs)
            except BaseException as error:
                self._memory.fail(entry, error)
                raise
            self._memory.keep(entry, result)
            return result
        if entry.result.exception() is not None:
            return self._forward(*args, **kwargs)
        return entry.result.result()


def _flatten(value: Any, plain: list[Any], tensors: list[Tensor]) -> bool:
    """Take arguments apart; False when one is neither a tensor nor a plain value, such as a cache of keys."""
    match value:
        case Tensor():
            tensors.append(value)
            plain.append(Tensor)
        case None | bool() | int() | float() | str():
            plain.append((type(value), value))
        case list() | tuple():
            plain.append((type(value), len(value)))
            return all(_flatten(each, plain, tensors) for each in value)
        case dict():
            plain.append((dict, *value))
            return all(_flatten(each, plain, tensors) for each in value.values())
        case _:
            return False
    return True
