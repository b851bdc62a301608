"""Continual learning on texts, class-incremental: topics of Reuters, the 8 of R8 first, then those of R52.

    python -m benchmarks.continual reuters [--increments 4] [--seeds 1 2 3] [--methods none er] [--quick]

The same student as in `text`. The head grows with each step (`tutelage.continual.heads.grow`), and all
classes known by then compete. The 44 other topics come in steps of equal number, frequent ones first; they
have 1 to 123 training texts each, so there are several epochs, and all trainings have one learning rate.
ACC is the mean over contexts; `of texts` the share of all test texts. EWC alone forgets: it holds weights,
and nothing tells old classes from new ones. Kept texts are balanced, since 52 classes have to be among them.
"""

from __future__ import annotations

import argparse

from benchmarks.continual.text import add_common_flags, filled, report, settings_of
from benchmarks.continual.text_data import R8, Stream, class_stream, load_reuters
from benchmarks.continual.text_methods import RECIPES
from tutelage.data.catalog import fetch_model
from tutelage.files import home
from tutelage.models.load import load_tokenizer

METHODS = [name for name in RECIPES if name != "ewc+lwf+er"]
DEFAULTS = {
    "rows": 100,
    "tests": 100,
    "fisher_examples": 400,
    "increments": 4,
    "epochs": 3,
    "max_tokens": 48,
    "later_lr": 6e-4,
}
QUICK = {
    "rows": 5,
    "tests": 3,
    "fisher_examples": 16,
    "increments": 2,
    "epochs": 2,
    "max_tokens": 24,
    "seeds": [1],
}


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Those of `reuters`."""
    parser.add_argument("--increments", type=int, help="steps after R8; 4")
    parser.add_argument("--rows", type=int, help="most training texts a class; 100")
    parser.add_argument("--tests", type=int, help="most test texts a class; 100")
    parser.add_argument("--lr", type=float, default=6e-4, help="of the first training")
    parser.add_argument("--epochs", type=int, help="of each training; 3")
    parser.add_argument("--kilobytes", type=int, default=200, help="of all kept texts; 200")
    parser.add_argument(
        "--fisher", choices=["exact", "sampled"], default="sampled", help="exact: a pass for each class"
    )
    add_common_flags(parser, METHODS)


def run(asked: argparse.Namespace) -> None:
    """Print the machine, the conditions and the tables."""
    filled(asked, {**DEFAULTS, "seeds": [1, 2, 3]}, QUICK)
    model = str(fetch_model("minilm", home()))
    (train, test), tokenizer = load_reuters(home()), load_tokenizer(model)
    streams: dict[tuple[int, int], Stream] = {
        (1, seed): class_stream(
            train,
            test,
            tokenizer,
            first=R8,
            steps=asked.increments,
            rows=asked.rows,
            tests=asked.tests,
            most=asked.max_tokens,
            seed=seed,
        )
        for seed in asked.seeds
    }
    contexts = next(iter(streams.values())).contexts
    sizes = ", ".join(f"{one.name} {len(one.train)}/{len(one.test)}" for one in contexts)
    heading = f"R8 to R52, at most {asked.rows} and {asked.tests} texts a class; training/test texts {sizes}"
    settings = settings_of(asked, model, buffer="balanced", fisher_mode=asked.fisher)
    report(asked, heading, {"contexts": [one.name for one in contexts]}, streams, settings)
