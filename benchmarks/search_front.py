"""Architecture search: its front beside random students, and estimated beside measured latency.

    TUTELAGE_HOME=... python -m benchmarks.search_front [--trials 20] [--steps 60]

The teachers of examples/reviews.yaml must be made. Both searches have the same space, number of trials and
steps; one is led by Optuna's estimator towards accuracy and latency, the other draws at random. A front is
worth its hypervolume: the area of (latency, accuracy) that it beats, up to 3 ms and down to accuracy 0.5.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from actors.finetune import finished_teachers
from actors.session import session
from actors.workspace import open_workspace
from tune_spaces.search.opened import open_search
from tune_spaces.search.records import Record
from tune_spaces.search.run import Searched, search
from tune_spaces.search.trial import trial_job
from tutelage.cli.quickstart import example
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config.load import load_job
from tutelage.export.cost import estimated_flop
from tutelage.files import home
from tutelage.progress import Silent

SLOWEST_MS, LEAST = 3.0, 0.5


def hypervolume(front: list[Record]) -> float:
    """Area between the front and the corner (SLOWEST_MS, LEAST)."""
    points = sorted((r.value("latency_ms") or 0.0, r.value("accuracy") or 0.0) for r in front)
    area, reached = 0.0, LEAST
    for ms, accuracy in points:
        if ms < SLOWEST_MS and accuracy > reached:
            area += (SLOWEST_MS - ms) * (accuracy - reached)
            reached = accuracy
    return area


def rank_correlation(one: list[float], other: list[float]) -> float:
    """Spearman's."""
    ranks = [np.argsort(np.argsort(values)).astype(float) for values in (one, other)]
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def main() -> None:
    """Print both fronts, their worth, and how well operations tell latency."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--steps", type=int, default=60)
    asked = parser.parse_args()
    quiet_libraries()
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB", flush=True)
    common = [
        "search.spaces=[architectures]",
        "search.goals=[accuracy, latency_ms]",
        f"search.trials={asked.trials}",
        f"search.budget={{max_steps: {asked.steps}}}",
        "search.reports=1",
        "search.warm_start=false",
    ]
    found: dict[str, Searched] = {}
    place = Path(home())
    job: Any = None
    with session(load_job(example()).job.ray, place) as ray_session:
        for name, searcher in (("searched", "{type: tpe, startup: 8}"), ("random", "{type: random}")):
            job = load_job(example(), [*common, f"search.searcher={searcher}"]).job
            space = open_workspace(job, place, Silent())
            found[name] = search(
                open_search(space, finished_teachers(space)), Silent(), storage=ray_session.storage
            )
            book = found[name].book
            print(
                f"{name}: {len(book.records)} trials in {book.seconds:.0f} s, {len(book.refused)} refused, "
                f"hypervolume {hypervolume(found[name].front):.3f}",
                flush=True,
            )
            for record in found[name].front:
                values = {key.rpartition(".")[2]: value for key, value in record.labels.items()}
                print(f"  {record.value('accuracy'):.4f}  {record.value('latency_ms'):.3f} ms  {values}")
    tokens = job.data.max_tokens
    flops, times = [], []
    for one in found.values():
        for record in one.book.records.values():
            student = trial_job(job, one.space, one.space.point(record.labels)).student
            flops.append(
                float(
                    estimated_flop(
                        job.task, space.student.folder, architecture=student.architecture, tokens=tokens
                    )
                )
            )
            times.append(record.measures["latency_ms"])
    rates = np.array(flops) / np.array(times)
    print(
        f"{len(times)} shapes: rank correlation of operations and latency "
        f"{rank_correlation(flops, times):.2f}; "
        f"operations a ms from {rates.min() / 1e6:.0f} to {rates.max() / 1e6:.0f} million"
    )


if __name__ == "__main__":
    main()
