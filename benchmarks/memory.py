"""Memory of the driver and of the student's worker when the data grows tenfold.

    python -m benchmarks.memory [--rows 4000]

A tiny classifier learns from two tiny teachers in Ray actors, once over all rows, by the steps of `tutelage
distill`; each size runs in a process of its own. Figures are largest resident sets (ru_maxrss).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine


def one(rows: int, folder: Path) -> dict[str, float]:
    """Distil over so many rows; megabytes of driver and worker."""
    from actors.distill import distill
    from actors.session import session
    from actors.workspace import open_workspace
    from tutelage.config import JobConfig
    from tutelage.progress import Silent
    from tutelage.testing import tiny_classifier, tiny_rows

    files = tiny_rows(folder / "data", rows, ["books"])
    job = {
        "name": "memory",
        "task": {"labels": ["negative", "positive"]},
        "data": {
            "max_tokens": 32,
            "sources": {"books": {"path": files["books"], "splits": {"validation": 50, "test": 50}}},
        },
        "teachers": [
            {"name": f"t{n}", "model": tiny_classifier(folder / f"t{n}", seed=n), "num_cpus": 0.3}
            for n in range(2)
        ],
        "student": {"model": tiny_classifier(folder / "student", seed=9)},
        "objectives": [{"type": "kl"}],
        "train": {"epochs": 1, "batch_size": 64, "cpus_per_worker": 0.5, "threads": 1},
    }
    config = JobConfig.model_validate(job)
    space = open_workspace(config, folder / "home", Silent())
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with session(config.ray, space.home) as ray:
        result = distill(space, {}, Silent(), storage=ray.storage).result
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {
        "steps": result["steps"],
        "driver": after,
        "before": before,
        "worker": result["peak_memory_mb"],
        "grown": result["grown_memory_mb"],
    }


def main() -> None:
    """Print both sizes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--one", type=Path, help="run this size alone, in this folder, and print JSON")
    asked = parser.parse_args()
    quiet_libraries()
    if asked.one:
        print(json.dumps(one(asked.rows, asked.one)))
        return
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB; MB")
    heads = f"{'driver, data ready':>20s}{'driver':>9s}{'worker':>9s}{'worker, in training':>21s}"
    print(f"{'rows':>8s}{'steps':>8s}{heads}")
    for rows in (asked.rows, 10 * asked.rows):
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.memory", "--rows", str(rows), "--one", folder]
            printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found = json.loads(printed.splitlines()[-1])
        print(
            f"{rows:8d}{found['steps']:8.0f}{found['before']:20.0f}{found['driver']:9.0f}"
            f"{found['worker']:9.0f}{found['grown']:+21.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
