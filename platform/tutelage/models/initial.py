"""The model that a student's training starts from: cut from the base, or built anew and started from it.

A student built anew takes of its base what fits, and the rest is its family's own random start:

* Same family and width: every tensor beside the layers that has the base's name and shape.
* Layers: copied where family, width, heads and feed-forward are the base's, evenly spaced.
* Embeddings of tokens, positions and segments: copied where the width is the base's. Else all are mapped by
  one matrix from the base's width d to the student's w. For w < d these are the w directions that keep most
  of the token table's energy (uncentred PCA), turned at random, so that no coordinate is much larger than the
  others; for w > d a random isometry, which keeps all. One factor then gives a token the base's root
  mean square.
* A factorised table of rank e: the e directions that keep most of that, and the matrix that leads back to w.

Shapes: V vocabulary, T positions, d the base's width, w the student's, e rank of a factorised table.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tutelage.config.architecture import Architecture
from tutelage.config.models import Method, PartialFinetune
from tutelage.config.task import Task
from tutelage.errors import ModelError
from tutelage.models.alignment import align
from tutelage.models.architecture import build, check_method, layers_fit, student_config
from tutelage.models.layers import encoder_layers
from tutelage.models.load import load_body, load_model, prepare_for_training, set_dropout

_LIFTS = ("embedding_hidden_mapping_in", "embeddings_project", "embedding_transformation", "embed_proj")
"""What families call the matrix behind a factorised table."""
_POSITIONS, _SEGMENTS = ("position_embeddings", "wpe"), ("token_type_embeddings",)


def new_student(
    task: Task,
    base: str,
    layers: list[int] | None,
    architecture: Architecture | None,
    method: Method,
    *,
    dropout: float | None = None,
    seed: int = 0,
) -> Any:
    """The student before its first step, fp32, with what the method trains left trainable.

    Args:
        task: decides the head.
        base: model folder that the student comes from.
        layers: what is kept of it; all when None. Not read with an architecture.
        architecture: a shape to build anew; None takes the base itself.
        method: which weights are trained.
        dropout: every dropout rate; the model's own when None.
        seed: of what a student built anew starts with at random; torch's generator is left as it was. Without
            an architecture a new head draws from torch's generator instead.

    Raises:
        ModelError: the base cannot be loaded, the shape cannot be built, or the method would leave random
            weights as they are.
    """
    if architecture is None:
        model = load_model(
            base,
            task.type,
            list(task.labels) or None,
            dropout=dropout,
            new_head=task.type != "causal-lm",
        )
        return prepare_for_training(model, method, layers)
    config = student_config(architecture, base, task)
    if dropout is not None:
        set_dropout(config, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # also for what the base itself lacks, such as a pooler
        body = load_body(base)
        check_method(method, config, body.config)
        model = build(config, task.type).eval()
    whole = start_from(model, body, seed)
    if isinstance(method, PartialFinetune) and method.freeze_embeddings and not whole:
        raise ModelError(
            f"student.method.freeze_embeddings: {body.config.model_type} has no position table for "
            f"{config.model_type} to start from, and frozen its own would stay random",
            fix="student.method.freeze_embeddings=false",
        )
    return prepare_for_training(align(model), method)


@torch.no_grad()
def start_from(model: Any, body: Any, seed: int) -> bool:
    """Give the model, in place, what fits of the base's body.

    Returns:
        Whether every embedding table of tokens and positions has come from the base.
    """
    same = (
        model.config.model_type == body.config.model_type
        and model.config.hidden_size == body.config.hidden_size
    )
    if same:
        _copy_named(model.base_model, body)
    if layers_fit(model.config, body.config):
        _copy_layers(model, body)
    if same and model.get_input_embeddings().weight.shape == body.get_input_embeddings().weight.shape:
        return True
    return _map_embeddings(model, body, torch.Generator().manual_seed(seed))


def spread_layers(wanted: int, there: int) -> list[int]:
    """Which of `there` layers `wanted` ones start from: evenly spaced, the first and the last among them.

    More than there are start from some of them twice.
    """
    if wanted == 1:
        return [0]
    return [(2 * index * (there - 1) + wanted - 1) // (2 * (wanted - 1)) for index in range(wanted)]


def principal(table_VD: Tensor, rank: int) -> Tensor:
    """fp32 [D, rank]: orthonormal directions that keep most of the table's squares, largest first."""
    gram_DD = (table_VD.T @ table_VD).double()
    directions_DR = torch.linalg.eigh(gram_DD).eigenvectors.flip(1)[:, :rank]
    # A direction and its opposite are as good; which one comes out must not depend on the processor.
    largest_1R = directions_DR.abs().argmax(0, keepdim=True)
    principal_DR: Tensor = (directions_DR * directions_DR.gather(0, largest_1R).sign()).float()
    return principal_DR


def _copy_named(new: Any, old: Any) -> None:
    inside = {id(tensor) for block in _blocks(new) for tensor in block.parameters()}
    given = old.state_dict()
    for name, tensor in new.named_parameters():
        if id(tensor) not in inside and name in given and given[name].shape == tensor.shape:
            tensor.copy_(given[name])


def _copy_layers(model: Any, body: Any) -> None:
    new, old = _blocks(model), _blocks(body)
    for block, index in zip(new, spread_layers(len(new), len(old)), strict=True):
        block.load_state_dict(old[index].state_dict())


def _blocks(model: Any) -> list[nn.Module]:
    """The layers, or the groups of ALBERT, whose layers share them."""
    for name, part in model.base_model.named_modules():
        if name.endswith("albert_layer_groups"):
            return list(part)
    return list(encoder_layers(model)[2])


def _map_embeddings(model: Any, body: Any, generator: torch.Generator) -> bool:
    """Project the base's tables of tokens, positions and segments onto those of the model, in place."""
    tokens_Vd = _lifted(body, body.get_input_embeddings().weight)
    width = model.config.hidden_size
    map_dw = _map(tokens_Vd, width, generator)
    tokens_Vw = tokens_Vd if map_dw is None else tokens_Vd @ map_dw
    gain = 1.0 if map_dw is None else float(_rms(tokens_Vd) / _rms(tokens_Vw))
    tokens_Vw = tokens_Vw * gain
    table = model.get_input_embeddings().weight
    lift = _lift(model)
    down_we, more = None, 1.0
    if lift is None:
        table.copy_(tokens_Vw)
        if map_dw is None:
            _copy_norm(model, body)
    else:
        rank = table.shape[1]
        down_we = torch.eye(width) if rank == width else principal(tokens_Vw, rank)
        table.copy_(tokens_Vw @ down_we)
        _set_lift(lift, down_we)
        if not _lifts_within_embeddings(model):
            # The norm in between makes rows of e numbers around 1; so are then those of w numbers behind it.
            lift.weight.mul_((width / rank) ** 0.5)
            more = float(_rms(tokens_Vw) / _rms(table))
            table.mul_(more)

    def mapped(rows_Xd: Tensor, columns: int) -> Tensor:
        rows_Xw = (rows_Xd if map_dw is None else rows_Xd @ map_dw) * gain
        return rows_Xw if columns == width or down_we is None else rows_Xw @ down_we * more

    positions, segments = _table(body, _POSITIONS), _table(body, _SEGMENTS)
    ours, our_segments = _table(model, _POSITIONS), _table(model, _SEGMENTS)
    # Texts of one segment are all there is, and what the base adds to each of them is not lost.
    always_d = None if segments is None or our_segments is not None else _lifted(body, segments.weight)[0]
    if ours is not None and positions is not None:
        rows_Td = _lifted(body, positions.weight)[_first(positions) :]
        rows_Td = rows_Td if always_d is None else rows_Td + always_d
        count = min(len(rows_Td), len(ours.weight) - _first(ours))
        ours.weight[_first(ours) : _first(ours) + count] = mapped(rows_Td[:count], ours.weight.shape[1])
    if our_segments is not None and segments is not None:
        count = min(len(segments.weight), len(our_segments.weight))
        rows_Xd = _lifted(body, segments.weight[:count])
        our_segments.weight[:count] = mapped(rows_Xd, our_segments.weight.shape[1])
    elif our_segments is not None:
        our_segments.weight.zero_()  # the base adds nothing to a token of the first segment
    return ours is None or positions is not None


def _map(tokens_Vd: Tensor, width: int, generator: torch.Generator) -> Tensor | None:
    """[d, w] with orthonormal columns (w < d) or rows (w > d); None where the widths are equal."""
    own = tokens_Vd.shape[1]
    if own == width:
        return None
    turn_ww: Tensor = torch.linalg.qr(torch.randn(width, width, generator=generator).double()).Q.float()
    return turn_ww[:own] if width > own else principal(tokens_Vd, width) @ turn_ww


def _rms(table: Tensor) -> Tensor:
    """Mean over rows of the root mean square of a row."""
    return table.pow(2).mean(1).sqrt().mean().clamp_min(1e-12)


def _lift(model: Any) -> nn.Linear | None:
    for name, part in model.base_model.named_modules():
        if name.rpartition(".")[2] in _LIFTS and isinstance(part, nn.Linear):
            return part
    return None


def _lifts_within_embeddings(model: Any) -> bool:
    """MobileBERT and DeBERTa lift tokens before positions are added, ALBERT and ELECTRA behind the norm."""
    lift = _lift(model)
    embeddings = getattr(model.base_model, "embeddings", None)
    return embeddings is not None and any(part is lift for part in embeddings.modules())


def _set_lift(lift: nn.Linear, down_we: Tensor) -> None:
    rank = down_we.shape[1]
    lift.weight.zero_()
    if lift.bias is not None:
        lift.bias.zero_()
    # MobileBERT reads [next, this, previous] token; it starts with this one alone.
    start = rank if lift.in_features == 3 * rank else 0
    lift.weight[:, start : start + rank] = down_we


def _lifted(body: Any, rows_Xe: Tensor) -> Tensor:
    """Rows of the base in its full width: those of a factorised table go through its matrix."""
    lift = _lift(body)
    rank = body.get_input_embeddings().weight.shape[1]
    if lift is None or rows_Xe.shape[1] != rank:
        return rows_Xe
    start = rank if lift.in_features == 3 * rank else 0
    return rows_Xe @ lift.weight[:, start : start + rank].T


def _copy_norm(model: Any, body: Any) -> None:
    """The norm behind the embeddings, whose coordinates are the base's."""
    norms = [
        next((part for part in parent.children() if isinstance(part, nn.LayerNorm)), None)
        for parent in (getattr(one.base_model, "embeddings", nn.Identity()) for one in (model, body))
    ]
    new, old = norms
    if new is not None and old is not None and new.weight.shape == old.weight.shape:
        new.load_state_dict(old.state_dict())


def _table(model: Any, names: tuple[str, ...]) -> nn.Embedding | None:
    for name, part in model.base_model.named_modules():
        if name.rpartition(".")[2] in names and isinstance(part, nn.Embedding):
            return part
    return None


def _first(positions: nn.Embedding) -> int:
    """The row of a text's first token."""
    return 0 if positions.padding_idx is None else positions.padding_idx + 1
