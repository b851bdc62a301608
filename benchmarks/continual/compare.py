"""Continual learning on images: every method on the same batches.

    python -m benchmarks.continual images [--protocol split permuted] [--scenario task domain class] [--quick]
    python -m benchmarks.continual images --lambdas [1 10 100 1000 10000]

After van de Ven & Tolias (arXiv 1904.07734 and 1809.10635). split: MLP of 400 and 400, Adam 1e-3, 5 contexts
of 2,000 batches of 128; permuted: 1000 and 1000, Adam 1e-4, 10 contexts of 5,000, outputs shared unless asked
otherwise. A new optimiser for each context.

lambda is that of (lambda / 2) sum F (theta - theta*)^2 with F the exact mean Fisher information as it is.
Explicit adds the penalty's gradient, and Adam scales the sum; proximal pulls after Adam's step, which is much
longer than lr times a small gradient: its best lambda is 30 to 100 times as large. A sweep tries five decades
around each rule's own.
`reference-ewc` has the penalty as a term of the loss, which is the explicit rule.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.continual.images import Images, load
from benchmarks.continual.learning import Course, result
from benchmarks.continual.methods import METHODS, Rule, Settings
from benchmarks.continual.protocols import Protocol, Scenario, permuted, split
from benchmarks.continual.table import Result, markdown, matrix_text, percent, table
from benchmarks.continual.where import where
from tutelage.files import home

DEFAULTS: dict[str, dict[str, Any]] = {
    "split": {"iterations": 2_000, "contexts": 5, "lr": 1e-3, "hidden": [400, 400], "fisher_examples": 1_000},
    "permuted": {
        "iterations": 5_000,
        "contexts": 10,
        "lr": 1e-4,
        "hidden": [1_000, 1_000],
        "fisher_examples": 500,
    },
}
QUICK: dict[str, dict[str, Any]] = {
    "split": {"iterations": 50, "fisher_examples": 100},
    "permuted": {"iterations": 100, "contexts": 3, "lr": 1e-3, "hidden": [200, 200], "fisher_examples": 50},
}
QUICK_TESTS = 2_000
SCENARIOS: dict[str, tuple[Scenario, ...]] = {"split": ("task", "domain", "class"), "permuted": ("domain",)}
LAMBDAS: dict[tuple[str, Rule], float] = {
    ("split", "explicit"): 1e5,
    ("split", "proximal"): 1e7,
    ("permuted", "explicit"): 1e3,
    ("permuted", "proximal"): 3e4,
}
SI: dict[tuple[str, str], float] = {
    ("split", "task"): 50.0,
    ("split", "domain"): 500.0,
    ("split", "class"): 0.5,
    ("permuted", "task"): 5.0,
    ("permuted", "domain"): 5.0,
    ("permuted", "class"): 0.1,
}
RULES: tuple[Rule, ...] = ("explicit", "proximal")
DECADES = (0.01, 0.1, 1.0, 10.0, 100.0)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `images`; what is left out is the protocol's own."""
    parser.add_argument("--images", choices=["fashion", "mnist"], default="fashion")
    parser.add_argument("--data", type=Path, help="folder of the fetched images; $TUTELAGE_HOME/datasets")
    parser.add_argument("--protocol", nargs="+", choices=list(DEFAULTS), default=["split"])
    parser.add_argument("--scenario", nargs="+", choices=["task", "domain", "class"])
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seeds", type=int, nargs="+")
    for flag in ("--iterations", "--contexts", "--fisher-examples"):
        parser.add_argument(flag, type=int)
    parser.add_argument("--lr", type=float)
    parser.add_argument("--hidden", type=int, nargs="+")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--optimizer", choices=["adam", "sgd"], default="adam")
    parser.add_argument("--lam", type=float, help="lambda of the EWC family")
    parser.add_argument("--rule", choices=RULES, help="explicit; a sweep tries both")
    parser.add_argument(
        "--lambdas", type=float, nargs="*", help="sweep of EWC; five decades when none is named"
    )
    parser.add_argument("--gamma", type=float, default=1.0, help="online EWC")
    parser.add_argument("--si", type=float, help="c of synaptic intelligence")
    parser.add_argument("--memory", type=int, default=500, help="images that replay keeps")
    parser.add_argument("--alpha", type=float, default=0.5, help="der++: kept logits")
    parser.add_argument("--beta", type=float, default=0.5, help="der++: kept labels")
    parser.add_argument("--temperature", type=float, default=2.0, help="lwf")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--quick", action="store_true", help="fewer batches and test images: about a minute")
    parser.add_argument("--matrices", action="store_true", help="print R as well")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")


def conditions(asked: argparse.Namespace, protocol: str, scenario: Scenario) -> tuple[Course, Settings, int]:
    """How contexts are learnt, constants of the methods, and the number of contexts."""
    chosen = {**DEFAULTS[protocol], **(QUICK[protocol] if asked.quick else {})}
    chosen |= {name: getattr(asked, name) for name in chosen if getattr(asked, name) is not None}
    rule: Rule = asked.rule or "explicit"
    course = Course(chosen["iterations"], asked.batch, chosen["lr"], tuple(chosen["hidden"]), asked.optimizer)
    settings = Settings(
        lam=LAMBDAS[protocol, rule] if asked.lam is None else asked.lam,
        rule=rule,
        gamma=asked.gamma,
        si=SI[protocol, scenario] if asked.si is None else asked.si,
        fisher_examples=chosen["fisher_examples"],
        memory=asked.memory,
        temperature=asked.temperature,
        alpha=asked.alpha,
        beta=asked.beta,
    )
    return course, settings, chosen["contexts"]


def sequence(name: str, images: Images, scenario: Scenario, contexts: int, seed: int) -> Protocol:
    """The contexts; a seed has permutations of its own."""
    return (
        split(images, scenario, contexts) if name == "split" else permuted(images, scenario, contexts, seed)
    )


def sweep(
    protocols: dict[int, Protocol], course: Course, settings: Settings, asked: argparse.Namespace
) -> list[dict[str, Any]]:
    """EWC with each lambda and rule."""
    name, found = next(iter(protocols.values())).name, []
    for rule in [asked.rule] if asked.rule else RULES:
        for lam in asked.lambdas or [LAMBDAS[name, rule] * factor for factor in DECADES]:
            tried = replace(settings, lam=lam, rule=rule)
            one = result(protocols, course, "ewc", tried, f" lambda {lam:g} {rule}")
            found.append({"lam": lam, "rule": rule, **one.as_json()})
    return found


def sweep_text(found: list[dict[str, Any]]) -> str:
    """ACC for each lambda, in percent."""
    cells = {(one["lam"], one["rule"]): percent(*one["figures"]["accuracy"].values()) for one in found}
    rules = [rule for rule in RULES if any(one["rule"] == rule for one in found)]
    lambdas = sorted({one["lam"] for one in found})
    return markdown(
        ["lambda", *rules], [[f"{lam:g}", *(cells.get((lam, rule), "") for rule in rules)] for lam in lambdas]
    )


def run(asked: argparse.Namespace) -> None:
    """Print the machine, the conditions and the tables."""
    begin = time.perf_counter()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    seeds: list[int] = asked.seeds or ([1] if asked.quick else [1, 2, 3])
    images = load(asked.images, asked.data or home() / "datasets").to(asked.device)
    if asked.quick:
        images = replace(images, test=images.test.first(QUICK_TESTS))
    surroundings = where(asked.device)
    document: dict[str, Any] = {"machine": surroundings, "images": asked.images, "seeds": seeds, "parts": []}
    if not asked.json:
        print(
            f"{surroundings}\n{asked.images}, seeds {', '.join(map(str, seeds))}; percent, ± standard error\n"
        )
    for name in asked.protocol:
        for scenario in asked.scenario or SCENARIOS[name]:
            course, settings, contexts = conditions(asked, name, scenario)
            protocols = {seed: sequence(name, images, scenario, contexts, seed) for seed in seeds}
            part: dict[str, Any] = {"protocol": name, "scenario": scenario, "contexts": contexts}
            part |= {"course": asdict(course), "settings": asdict(settings)}
            if asked.lambdas is None:
                results = [result(protocols, course, method, settings) for method in asked.methods]
                part["results"] = [one.as_json() for one in results]
                text = _tables(results, matrices=asked.matrices)
            else:
                part["sweep"] = sweep(protocols, course, settings, asked)
                text = sweep_text(part["sweep"])
            document["parts"].append(part)
            if not asked.json:
                print(f"{_heading(name, scenario, contexts, course, settings)}\n\n{text}\n", flush=True)
    document["seconds"] = time.perf_counter() - begin
    print(json.dumps(document, indent=1) if asked.json else f"{document['seconds']:.0f} s")


def _tables(results: list[Result], *, matrices: bool) -> str:
    return "\n\n".join([table(results), *(matrix_text(one) for one in results if matrices)])


def _heading(name: str, scenario: str, contexts: int, course: Course, settings: Settings) -> str:
    parts = [
        f"{name}, {scenario}-incremental: {contexts} contexts",
        f"{course.iterations} batches of {course.batch} each",
        f"MLP {'-'.join(map(str, course.hidden))}, {course.optimizer} {course.lr:g}",
        f"lambda {settings.lam:g} {settings.rule}, Fisher of {settings.fisher_examples or 'all'} images",
        f"c {settings.si:g}, memory {settings.memory}",
    ]
    return "; ".join(parts)
