"""Continual learning on texts, domain-incremental: sentiment in four domains that come one after another.

    python -m benchmarks.continual text [--orders 4] [--seeds 1 2 3] [--methods none er joint] [--quick]
    python -m benchmarks.continual text --lambdas [1 100 1000 10000 100000]

Three layers of MiniLM with frozen embeddings, two classes, one epoch of each domain with AdamW: 6e-4 in the
first training and 2e-4 in later ones, as in examples/reviews.yaml. Every method sees the same batches; what
is judged is 500 test texts a domain, the same for all orders and seeds. n orders of four domains have each
domain once in each place. lambda is the mean curvature that the penalty adds (`Anchors.strength`): a proximal
pull is lr times that, so the few steps of a domain need a large one to be held at all.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from statistics import mean
from typing import Any

import torch

from benchmarks.continual.methods import Rule
from benchmarks.continual.table import FIGURES, TITLES, Result, markdown, matrix_text, percent, spread
from benchmarks.continual.text_data import DOMAINS, Stream, domain_stream, load_domains, orders
from benchmarks.continual.text_learning import Begun, result
from benchmarks.continual.text_methods import RECIPES, Settings
from benchmarks.continual.where import where
from tutelage.data.catalog import fetch_model
from tutelage.files import home
from tutelage.models.load import load_tokenizer

RULES: tuple[Rule, ...] = ("proximal", "explicit")
LAMBDAS = (1.0, 100.0, 1_000.0, 10_000.0, 100_000.0)
QUICK: dict[str, Any] = {
    "rows": 96,
    "tests": 40,
    "fisher_examples": 32,
    "kilobytes": 12,
    "max_tokens": 32,
}
DEFAULTS: dict[str, Any] = {
    "rows": 800,
    "tests": 500,
    "fisher_examples": 400,
    "kilobytes": 50,
    "max_tokens": 48,
    "later_lr": 2e-4,
}
METHODS = [name for name, recipe in RECIPES.items() if not recipe.nearest_mean]

Streams = Mapping[tuple[int, int], Stream]
"""By number of the order and seed."""


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `text`."""
    parser.add_argument("--orders", type=int, help="of 24; 4, and 1 with --quick")
    parser.add_argument("--rows", type=int, help="training texts a domain; 800")
    parser.add_argument("--tests", type=int, help="test texts a domain; 500")
    parser.add_argument("--lr", type=float, default=6e-4, help="of the first training")
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--kilobytes", type=int, help="of all kept texts; 50")
    add_common_flags(parser, METHODS)


def add_common_flags(parser: argparse.ArgumentParser, methods: list[str]) -> None:
    """Those that `text` and `reuters` share."""
    parser.add_argument("--methods", nargs="+", choices=methods, default=methods)
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--later-lr", type=float, help="of trainings after the first")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--max-tokens", type=int, help="48")
    parser.add_argument("--lam", type=float, default=1.0, help="lambda of ewc")
    parser.add_argument("--rule", choices=RULES, default="proximal")
    parser.add_argument("--lambdas", type=float, nargs="*", help="sweep of ewc; five when none is named")
    parser.add_argument("--gamma", type=float, default=0.9, help="online EWC")
    parser.add_argument("--fisher-examples", type=int)
    parser.add_argument("--temperature", type=float, default=2.0, help="lwf")
    parser.add_argument("--distil", type=float, default=1.0, help="weight of lwf")
    parser.add_argument("--logits", type=float, default=0.5, help="weight of kept logits")
    parser.add_argument("--threads", type=int, help="of torch")
    parser.add_argument("--quick", action="store_true", help="few texts: about two minutes on one thread")
    parser.add_argument("--matrices", action="store_true", help="print R as well")
    parser.add_argument("--json", action="store_true", help="one JSON document instead of tables")


def filled(asked: argparse.Namespace, defaults: dict[str, Any], quick: dict[str, Any]) -> None:
    """Put numbers where none was asked."""
    for name, value in {**defaults, **(quick if asked.quick else {})}.items():
        if getattr(asked, name) is None:
            setattr(asked, name, value)


def settings_of(asked: argparse.Namespace, model: str, **more: Any) -> Settings:
    """Constants of the methods."""
    return Settings(
        model=model,
        batch=asked.batch,
        epochs=asked.epochs,
        lr=asked.lr,
        later_lr=asked.later_lr,
        lam=asked.lam,
        rule=asked.rule,
        gamma=asked.gamma,
        fisher_examples=asked.fisher_examples,
        kilobytes=asked.kilobytes,
        temperature=asked.temperature,
        distil=asked.distil,
        logits=asked.logits,
        **more,
    )


def run(asked: argparse.Namespace) -> None:
    """Print the machine, the conditions and the tables."""
    filled(asked, {**DEFAULTS, "orders": 4, "seeds": [1, 2, 3]}, {**QUICK, "orders": 1, "seeds": [1]})
    model = str(fetch_model("minilm", home()))
    domains, tokenizer = load_domains(home()), load_tokenizer(model)
    chosen = orders(DOMAINS, asked.orders)
    streams: dict[tuple[int, int], Stream] = {}
    for seed in asked.seeds:
        made = domain_stream(
            domains, tokenizer, tests=asked.tests, rows=asked.rows, most=asked.max_tokens, seed=seed
        )
        streams |= {(number, seed): made.in_order(names) for number, names in enumerate(chosen, 1)}
    heading = (
        f"reviews, {len(chosen)} orders ({'; '.join(' '.join(one) for one in chosen)}); "
        f"{asked.rows} texts a domain, {asked.tests} for tests"
    )
    report(asked, heading, {"orders": chosen}, streams, settings_of(asked, model))


def report(
    asked: argparse.Namespace, heading: str, about: dict[str, Any], streams: Streams, settings: Settings
) -> None:
    """Run what is asked, and print it."""
    begin = time.perf_counter()
    if asked.threads:
        torch.set_num_threads(asked.threads)
    surroundings, begun = where("cpu"), Begun()
    shown = asdict(settings) | {"model": "minilm, layers 0 2 5"}
    if not asked.json:
        print(f"{surroundings}\n{heading}\nseeds {', '.join(map(str, asked.seeds))}; {_line(shown)}")
        print("percent, ± standard error over orders and seeds\n", flush=True)
    if asked.lambdas is None:
        results = [result(streams, method, settings, begun) for method in asked.methods]
    else:
        results = [
            result(streams, "ewc", replace(settings, lam=lam), begun, f" {lam:g}")
            for lam in asked.lambdas or LAMBDAS
        ]
    sizes = [len(context.test) for context in next(iter(streams.values())).contexts]
    document: dict[str, Any] = {"machine": surroundings, **about, "settings": shown}
    document["results"] = [one.as_json() | {"texts": _of_texts(one, sizes)[0]} for one in results]
    document["seconds"] = time.perf_counter() - begin
    if asked.json:
        print(json.dumps(document, indent=1))
        return
    print("\n\n".join([text_table(results, sizes), *(matrix_text(one) for one in results if asked.matrices)]))
    print(f"\n{document['seconds']:.0f} s")


def _line(settings: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in settings.items()
    )


def _of_texts(one: Result, sizes: list[int]) -> tuple[float, float | None]:
    """Share of all test texts that is right at the end."""
    finals = [matrix[-1] for matrix in one.matrices]
    return spread([sum(a * n for a, n in zip(row, sizes, strict=True)) / sum(sizes) for row in finals])


def text_table(results: list[Result], sizes: list[int]) -> str:
    """As `table`, with the share of all test texts where contexts differ in size.

    `joint` has no order, so ACC is all that is said of it.
    """
    unequal = len(set(sizes)) > 1
    rows = []
    for one in results:
        said = FIGURES[:1] if RECIPES[one.method.split()[0]].joint else FIGURES
        cells = [percent(*one.figure(name)) for name in said] + [""] * (len(FIGURES) - len(said))
        texts = [percent(*_of_texts(one, sizes))] if unequal else []
        rows.append([one.method, *cells, *texts, f"{mean(one.seconds):.1f}"])
    return markdown(["method", *TITLES, *(["of texts"] if unequal else []), "s a run"], rows)
