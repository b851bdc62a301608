"""What trials cost: with one pass of the teachers for all, and with teachers of their own.

    TUTELAGE_HOME=... python -m benchmarks.search_cost [--trials 1 4 8 16] [--own 16] [--layers 1]

The teachers of examples/reviews.yaml must be made (`tutelage finetune examples/reviews.yaml`). The student
reads 400 rows a domain once. `shared`: `tutelage tune`'s search, from an empty signal store. `own`: the same
trainings one after another, each as a Ray Train run with a fleet and an empty store of its own, which is what
a search over `distill` without a common store does. Both in one Ray, with the same values and steps.
"""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import replace
from pathlib import Path
from statistics import median

from actors.board import NoBoard
from actors.distill import student_training, teacher_specs
from actors.finetune import finished_teachers
from actors.fleet import Fleet
from actors.session import session
from actors.student import fit_all
from actors.workspace import Workspace, open_workspace
from tune_spaces.ready_made import space_of
from tune_spaces.search.opened import open_search
from tune_spaces.search.run import search
from tune_spaces.space import job_at
from tutelage.cli.quickstart import example
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config import JobConfig
from tutelage.config.load import load_job
from tutelage.files import home
from tutelage.progress import Silent

ROWS = 400
MOST = 16
RATES = [1e-4 * 1.25**n for n in range(MOST)]


def job(trials: int, layers: int) -> JobConfig:
    """The reviews, smaller, with so many learning rates to try; the student keeps the lowest layers."""
    loaded = load_job(example(), ["combiner={type: uniform}", "train.epochs=1"]).job
    data = loaded.model_dump(mode="json")
    for pick in data["student"]["data"].values():
        pick["rows"] = ROWS
    data["student"]["layers"] = list(range(layers))
    data["search"] = {
        "space": {"train.lr": {"type": "choice", "values": RATES}},
        "searcher": {"type": "grid"},
        "scheduler": {"type": "none"},
        "trials": trials,
        "reports": 1,
        "warm_start": False,
    }
    return JobConfig.model_validate(data)


def shared(space: Workspace, trials: int, layers: int) -> tuple[float, dict[str, int], list[float]]:
    """Seconds, teacher calls, and start-up seconds of each trial."""
    shutil.rmtree(space.signals, ignore_errors=True)
    mine = replace(space, job=job(trials, layers))
    begin = time.monotonic()
    found = search(open_search(mine, finished_teachers(mine)), Silent(), storage=str(space.home), fresh=True)
    starts = [record.last["start_s"] for record in found.book.records.values()]
    return time.monotonic() - begin, found.book.calls, starts


def own(space: Workspace, trials: int) -> list[tuple[float, int]]:
    """Seconds and teacher calls of each trial."""
    found = []
    searched = space_of(space.job, space.student)
    for number, rate in enumerate(RATES[:trials]):
        mine = replace(space, job=job_at(space.job, searched, {"train.lr": rate}))
        specs = teacher_specs(mine, finished_teachers(mine))
        folder = space.home / "own" / str(number)
        shutil.rmtree(folder, ignore_errors=True)
        begin = time.monotonic()
        training = student_training(mine, specs, f"own-{number}", str(folder), {})
        stores = {name: str(folder / name) for name in training.stores}
        training = replace(training, stores=stores, output=str(folder / "model"))
        fleet = Fleet(list(zip(specs, mine.job.teachers, strict=True)), mine.job.stream)
        try:
            result = fit_all({training.run: training}, fleet.members, NoBoard())[training.run]
        finally:
            fleet.stop()
        calls = sum(int(counted["calls"]) for counted in result["teachers"].values())
        found.append((time.monotonic() - begin, calls))
        shutil.rmtree(folder, ignore_errors=True)
    return found


def main() -> None:
    """Print a line for each number of trials."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--trials", type=int, nargs="+", default=[1, 4, 8, 16])
    parser.add_argument(
        "--own", type=int, default=16, help="trials that are run with teachers of their own; more are scaled"
    )
    parser.add_argument("--layers", type=int, default=1, help="layers of the student")
    asked = parser.parse_args()
    quiet_libraries()
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB", flush=True)
    print(f"{4 * ROWS} rows, 3 teachers of 6 layers, student of {asked.layers}", flush=True)
    place = Path(home())
    space = open_workspace(job(1, asked.layers), place, Silent())
    signals = space.signals
    kept = signals.with_name("signals-kept")
    if signals.exists():
        signals.rename(kept)  # the benchmark needs an empty store, and its user may need the full one
    try:
        with session(space.job.ray, place):
            alone: list[tuple[float, int]] = own(space, asked.own)
            seconds = [took for took, _ in alone]
            print(
                f"own teachers: {len(alone)} trials in {sum(seconds):.0f} s, "
                f"median {median(seconds):.1f} s, "
                f"{sum(calls for _, calls in alone)} teacher calls",
                flush=True,
            )
            heads = f"{'trials':>7s}{'shared s':>10s}{'own s':>8s}{'times':>7s}{'calls':>7s}{'own':>7s}"
            print(f"{heads}  start-up s")
            for trials in asked.trials:
                took, calls, starts = shared(space, trials, asked.layers)
                apart = sum(seconds[:trials])
                if trials > len(seconds):
                    apart *= trials / len(
                        seconds
                    )  # they run one after another, and do not learn of each other
                counted = sum(count for _, count in alone[:1]) * trials
                first, later = starts[:2], starts[2:]
                words = f"first {median(first):.1f}" + (f", then {median(later):.2f}" if later else "")
                print(
                    f"{trials:7d}{took:10.1f}{apart:8.0f}{apart / took:7.1f}{sum(calls.values()):7d}"
                    f"{counted:7d}  {words}",
                    flush=True,
                )
    finally:
        shutil.rmtree(signals, ignore_errors=True)
        if kept.exists():
            kept.rename(signals)


if __name__ == "__main__":
    main()
