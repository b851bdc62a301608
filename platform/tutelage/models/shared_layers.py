"""Models that are the same up to some layer run those layers once for all of them.

Teachers are often fine-tuned from one base with its lowest layers frozen, or differ in the head alone. In one
process such models hold these layers once, and each layer remembers what it gave for what it was called
with: who comes second takes the result. The layers of the architectures in PURE are, in evaluation mode,
functions of their weights and arguments, so the bits are those of a model alone.

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

from tutelage.models.layers import encoder_layers

BUDGET_BYTES = 256 * 2**20
"""Remembered results of one process. Models that run at the same time need few; one that lags recomputes."""

PURE = {"bert", "deberta-v2", "distilbert", "electra", "gemma2", "gemma3_text", "gpt2", "gpt_neox", "llama"}
PURE |= {"mistral", "modernbert", "opt", "qwen2", "qwen3", "roberta", "xlm-roberta"}
"""Model types whose layers were read. Others may keep state in their layers (RWKV, RecurrentGemma), or change
them by what a model has seen (BigBird)."""
ENTRIES = 16
"""Results that one layer remembers: a few more than batches are asked ahead."""

_NAMES = {"architectures", "_name_or_path", "id2label", "label2id", "problem_type", "dtype", "torch_dtype"}
_NAMES |= {"transformers_version", "finetuning_task", "use_cache"}


class SharedLayers:
    """The models of one process. `add` and the layers themselves may be called from any thread."""

    def __init__(self, budget_bytes: int = BUDGET_BYTES) -> None:
        self._models: list[Any] = []
        self._tally = _Tally(budget_bytes)
        self._adding = threading.Lock()

    def add(self, model: Any) -> int:
        """Let a model, in evaluation mode, use the layers of an earlier one, as far as they are the same.

        Returns how many layers it shares, from the first on; 0 for one that is like no other. Models that
        are in use may go on meanwhile.
        """
        with self._adding:
            if not _sharable(model.config):
                return 0
            shared, like = max(
                ((_same_layers(other, model), place) for place, other in enumerate(self._models)),
                key=lambda found: found[0],
                default=(0, 0),
            )
            self._models.append(model)
            if shared:
                self._join(self._models[like], model, shared)
            return shared

    @property
    def computed(self) -> int:
        """Calls of shared layers that were computed."""
        return self._tally.computed

    @property
    def recalled(self) -> int:
        """Calls of shared layers that took an earlier result."""
        return self._tally.recalled

    @property
    def held_bytes(self) -> int:
        """Bytes of results that another model may still ask for."""
        return self._tally.held_bytes

    def _join(self, other: Any, model: Any, shared: int) -> None:
        theirs, own = encoder_layers(other)[2], encoder_layers(model)[2]
        model.set_input_embeddings(other.get_input_embeddings())
        for place in range(shared):
            layer = theirs[place]
            if not isinstance(layer.forward, _Remembered):
                layer.forward = _Remembered(layer.forward, self._tally)
            layer.forward.users += 1
            own[place] = layer


def _sharable(config: Any) -> bool:
    """Recalled layers show nothing to who listens inside them for more than their result."""
    listens = any(getattr(config, f"output_{what}", False) for what in ("hidden_states", "attentions"))
    return config.model_type in PURE and not listens


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
    # The kernel is no part of a saved config, and another kernel gives other bits.
    return {"attention": config._attn_implementation} | {
        key: value
        for key, value in found.items()
        if key not in _NAMES and "dropout" not in key and not key.endswith("pdrop")
    }


def _equal(one: nn.Module, two: nn.Module) -> bool:
    """Whether two modules are of one kind and have equal weights."""
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

    plain: list[Any]
    tensors: list[Tensor]
    result: Future[Any] = field(default_factory=Future)
    taken: int = 1
    size: int = 0
    """Bytes that it keeps alive; those of one tensor in two entries count twice."""

    def answers(self, plain: list[Any], tensors: list[Tensor]) -> bool:
        """Whether a call with these arguments would give the same."""
        return self.plain == plain and all(
            _alike(mine, other) for mine, other in zip(self.tensors, tensors, strict=True)
        )


class _Tally:
    """What all layers of a process together remember and count."""

    def __init__(self, budget_bytes: int) -> None:
        self._budget = budget_bytes
        self._lock = threading.Lock()
        self.held_bytes = 0
        self.computed = 0
        self.recalled = 0

    def call(self, *, first: bool) -> None:
        """Count a call."""
        with self._lock:
            self.computed += first
            self.recalled += not first

    def hold(self, size: int) -> bool:
        """Take or, below 0, give back room; False when there is none."""
        with self._lock:
            if size > 0 and self.held_bytes + size > self._budget:
                return False
            self.held_bytes += size
            return True


class _Remembered:
    """A layer's forward for several models."""

    def __init__(self, forward: Callable[..., Any], tally: _Tally) -> None:
        self._forward = forward
        self._tally = tally
        self._entries: deque[_Entry] = deque()
        """Oldest first. Models ask in about the same order, so the one that is wanted is among the newest."""
        self._lock = threading.Lock()
        self.users = 1

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        plain: list[Any] = list(kwargs)
        tensors: list[Tensor] = []
        if torch.is_grad_enabled() or not _flatten((*args, *kwargs.values()), plain, tensors):
            return self._forward(*args, **kwargs)
        entry, first = self._find(plain, tensors)
        self._tally.call(first=first)
        if first:
            try:
                result = self._forward(*args, **kwargs)
            except BaseException as error:
                self._fail(entry, error)
                raise
            self._keep(entry, result)
            return result
        if entry.result.exception() is not None:
            return self._forward(*args, **kwargs)
        return entry.result.result()

    def _find(self, plain: list[Any], tensors: list[Tensor]) -> tuple[_Entry, bool]:
        """The entry of this call, and whether the caller is the one to compute it."""
        with self._lock:
            for entry in reversed(self._entries):
                if entry.answers(plain, tensors):
                    entry.taken += 1
                    if entry.taken >= self.users and entry.result.done():
                        self._forget(entry)
                    return entry, False
            entry = _Entry(plain, tensors)
            self._entries.append(entry)
            return entry, True

    def _keep(self, entry: _Entry, result: Any) -> None:
        """The call is done: hand its result to who waits and who will come."""
        found = list(entry.tensors)
        _flatten((result,), [], found)
        size = sum(tensor.nbytes for tensor in found)
        with self._lock:
            entry.result.set_result(result)
            if entry.taken >= self.users:
                self._entries.remove(entry)
                return
            old = deque(each for each in self._entries if each.size)
            while old and len(old) >= ENTRIES:
                self._forget(old.popleft())
            while not self._tally.hold(size):
                if not old:
                    self._entries.remove(entry)
                    return
                self._forget(old.popleft())
            entry.size = size

    def _fail(self, entry: _Entry, error: BaseException) -> None:
        """The call failed: who waits must compute it without this memory."""
        with self._lock:
            self._entries.remove(entry)
            entry.result.set_exception(error)

    def _forget(self, entry: _Entry) -> None:
        self._entries.remove(entry)
        self._tally.hold(-entry.size)


def _flatten(values: tuple[Any, ...], plain: list[Any], tensors: list[Tensor]) -> bool:
    """Take arguments apart; False when one is something that a layer may fill, such as a cache of keys."""
    for value in values:
        match value:
            case Tensor():
                tensors.append(value)
                plain.append((Tensor, value.stride()))  # another order of bytes may have another kernel
            case None | bool() | int() | float() | str():
                plain.append((type(value), value))
            case tuple():
                plain.append((tuple, len(value)))
                if not _flatten(value, plain, tensors):
                    return False
            case _:
                return False
    return True
