"""How long a Ray Train job takes to its first line: our trainer beside Ray's own, in one run.

python -m benchmarks.start_up [--rounds 3]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

from actors.lean_trainer import Ending, lean_trainer
from actors.session import session
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config.runtime import RayConfig


def first_line(config: dict[str, Any]) -> dict[str, float]:
    """What the worker runs: says when it began."""
    return {"began": time.time()}


def start(trainer: Any, folder: str) -> tuple[float, float]:
    """Seconds to the worker's first line, and to the end of `fit`."""
    import ray.train

    api: Any = ray.train
    begin = time.time()
    result = trainer(
        first_line,
        train_loop_config={},
        scaling_config=api.ScalingConfig(num_workers=1),
        run_config=api.RunConfig(name=f"start-{begin}", storage_path=folder),
    ).fit()
    return result.return_value["began"] - begin, time.time() - begin


def main() -> None:
    """Print the medians of both, in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    quiet_libraries()
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.os}; 1 worker, median of {rounds}")
    with tempfile.TemporaryDirectory() as folder, session(RayConfig(), Path(folder)):
        from ray.train.torch import TorchTrainer

        times: dict[str, list[tuple[float, float]]] = {"ours": [], "Ray's own": []}
        for _ in range(rounds):
            for name, trainer in (("ours", lean_trainer(Ending())), ("Ray's own", TorchTrainer)):
                times[name].append(start(trainer, folder))
        for name, measured in times.items():
            first, total = (sorted(column)[len(column) // 2] for column in zip(*measured, strict=True))
            print(f"{name:10s} first line after {first:5.1f} s, fit {total:5.1f} s")


if __name__ == "__main__":
    main()
