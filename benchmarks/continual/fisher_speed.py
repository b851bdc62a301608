"""Exact Fisher information: examples a second beside a loop over single examples, and how far both differ.

    python -m benchmarks.continual fisher [--examples 1024] [--loop 32] [--models mlp bert]

mlp: 784-400-400; bert: 3 layers of width 384, sequences of 8 to 32 tokens. Random weights and inputs. The
loop makes one backward pass for each example and label. Difference: in each parameter, the largest absolute
difference over the largest entry; the largest of all parameters. Parameters whose entries all stay below 1e-6
of the model's largest are left out: an attention's key bias has no gradient, and what is found is rounding.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks.continual.learning import mlp
from benchmarks.continual.methods import our_fisher
from benchmarks.continual.reference import fisher_one_by_one
from benchmarks.continual.table import markdown
from benchmarks.continual.where import where

NEGLIGIBLE = 1e-6
VOCABULARY, SHORTEST, LONGEST = 2_000, 8, 32


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `fisher`."""
    parser.add_argument("--models", nargs="+", choices=["mlp", "bert"], default=["mlp", "bert"])
    parser.add_argument("--classes", type=int, nargs="+", default=[2, 10])
    parser.add_argument("--examples", type=int, default=1_024, help="for tutelage.continual")
    parser.add_argument("--loop", type=int, default=32, help="for the loop, and the difference")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3, help="the fastest counts")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--json", action="store_true")


def largest_difference(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """As the text above says."""
    sizes = {name: float(one.abs().max()) for name, one in theirs.items()}
    floor = NEGLIGIBLE * max(sizes.values())
    return max(
        float((ours[name] - theirs[name]).abs().max()) / size for name, size in sizes.items() if size > floor
    )


def _fastest(
    repeats: int, device: str, call: Callable[[], dict[str, Tensor]]
) -> tuple[float, dict[str, Tensor]]:
    seconds, found = [], {}
    for _ in range(repeats):
        begin = time.perf_counter()
        found = call()
        if device != "cpu":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - begin)
    return min(seconds), found


def subject(name: str, classes: int, examples: int, device: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """A model in evaluation mode and its inputs by name."""
    torch.manual_seed(0)
    if name == "mlp":
        return mlp(784, (400, 400), classes).to(device).eval(), {
            "pixels_ND": torch.rand(examples, 784).to(device)
        }
    import transformers

    kinds: Any = transformers
    config = kinds.BertConfig(
        vocab_size=VOCABULARY,
        hidden_size=384,
        num_hidden_layers=3,
        num_attention_heads=6,
        intermediate_size=1_536,
        num_labels=classes,
    )
    ids_NL = torch.randint(1, VOCABULARY, (examples, LONGEST))
    lengths_N = torch.randint(SHORTEST, LONGEST + 1, (examples,))
    mask_NL = (torch.arange(LONGEST) < lengths_N[:, None]).long()
    inputs = {"input_ids": (ids_NL * mask_NL).to(device), "attention_mask": mask_NL.to(device)}
    model: nn.Module = kinds.BertForSequenceClassification(config).to(device).eval()
    return model, inputs


def _batches(name: str, inputs: dict[str, Tensor], size: int) -> Iterator[tuple[int, Any]]:
    for parts in zip(*(torch.split(one, size) for one in inputs.values()), strict=True):
        yield len(parts[0]), parts[0] if name == "mlp" else dict(zip(inputs, parts, strict=True))


def compare(name: str, classes: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Examples a second of both, and their difference."""
    model, inputs = subject(name, classes, max(asked.examples, asked.loop), asked.device)
    parameters = dict(model.named_parameters())
    kind: Literal["tensor", "mapping"] = "tensor" if name == "mlp" else "mapping"

    def ours(examples: int) -> dict[str, Tensor]:
        some = {key: one[:examples] for key, one in inputs.items()}
        return our_fisher(model, _batches(name, some, asked.batch), inputs=kind)

    def logits(example: Any) -> Tensor:
        found = model(example) if name == "mlp" else model(**example).logits
        return found[0]  # type: ignore[no-any-return]

    def loop() -> dict[str, Tensor]:
        some = {key: one[: asked.loop] for key, one in inputs.items()}
        return fisher_one_by_one(parameters, (one for _, one in _batches(name, some, 1)), logits)

    ours(min(asked.examples, asked.batch))
    fast, _ = _fastest(asked.repeats, asked.device, lambda: ours(asked.examples))
    slow, reference = _fastest(asked.repeats, asked.device, loop)
    each = {"ours": asked.examples / fast, "loop": asked.loop / slow}
    difference = largest_difference(ours(asked.loop), reference)
    return {
        "model": name,
        "classes": classes,
        **each,
        "times": each["ours"] / each["loop"],
        "difference": difference,
    }


def run(asked: argparse.Namespace) -> None:
    """Print the machine and the table."""
    if asked.threads:
        torch.set_num_threads(asked.threads)
    surroundings = where(asked.device)
    begin = time.perf_counter()
    found = [compare(name, classes, asked) for name in asked.models for classes in asked.classes]
    seconds = time.perf_counter() - begin
    if asked.json:
        print(json.dumps({"machine": surroundings, "results": found, "seconds": seconds}, indent=1))
        return
    print(f"{surroundings}\n{asked.examples} examples, {asked.loop} for the loop, batches of {asked.batch}\n")
    rows = [
        [
            one["model"],
            str(one["classes"]),
            f"{one['ours']:,.0f}",
            f"{one['loop']:,.1f}",
            f"{one['times']:.1f}",
            f"{one['difference']:.1e}",
        ]
        for one in found
    ]
    print(markdown(["model", "classes", "examples/s", "loop", "times", "difference"], rows))
    print(f"\n{seconds:.0f} s")
