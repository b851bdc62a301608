"""Start and memory of a fleet of small teachers: a process each, against one process for all.

    python -m benchmarks.shared_process [--teachers 1 3 5] [--rounds 2]

Untrained MiniLM classifiers, so nothing is fine-tuned before. Seconds run from the fleet's first line
until every teacher can be asked, with Ray itself up. Memory is what no other process shares (USS).
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import psutil

from actors.fleet import Fleet
from actors.session import session
from actors.teacher import TeacherSpec
from tutelage.cli.quiet import quiet_libraries
from tutelage.cli.surroundings import machine
from tutelage.config.models import TeacherConfig
from tutelage.config.runtime import RayConfig
from tutelage.config.task import SequenceClassification
from tutelage.data.catalog import resolve_model
from tutelage.files import home
from tutelage.models.load import load_classifier, load_tokenizer


def main() -> None:
    """Print seconds and MiB for each number of teachers, both ways."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--teachers", type=int, nargs="+", default=[1, 3, 5])
    parser.add_argument("--rounds", type=int, default=2)
    asked = parser.parse_args()
    quiet_libraries()
    where = machine()
    print(f"{where.cpu}, {where.cores} cores, {where.memory_gb} GiB, load {os.getloadavg()[0]:.1f}")
    print(f"{'teachers':>8s}  {'process':8s}{'seconds':>9s}{'MiB':>7s}{'processes':>11s}")
    with tempfile.TemporaryDirectory() as scratch, session(RayConfig(), Path(scratch) / "home"):
        folder = str(_classifier(Path(scratch) / "model"))
        for count in asked.teachers:
            for shared in (False, True) if count > 1 else (False,):
                rounds = [_start(folder, count, shared) for _ in range(asked.rounds)]
                seconds, memory, processes = (statistics.median(each) for each in zip(*rounds, strict=True))
                way = "one" if shared else "each"
                print(f"{count:8d}  {way:8s}{seconds:9.1f}{memory:7.0f}{processes:11.0f}", flush=True)


def _classifier(folder: Path) -> Path:
    base = resolve_model("catalog:minilm", home())
    load_classifier(base, ["negative", "positive"]).save_pretrained(folder)
    load_tokenizer(base).save_pretrained(folder)
    return folder


def _start(folder: str, count: int, shared: bool) -> tuple[float, float, int]:
    task = SequenceClassification(labels=["negative", "positive"])
    plans = []
    for number in range(count):
        name = f"t{number}"
        config = TeacherConfig(name=name, model=folder, num_cpus=0.2, share_process=shared)
        plans.append((TeacherSpec(name, folder, folder, (), 48, 1, "0" * 16, task), config))
    begin = time.perf_counter()
    fleet = Fleet(plans)
    try:
        cards = fleet.ready(200)
        seconds = time.perf_counter() - begin
        pids = {int(card["pid"]) for card in cards}
        own = sum(psutil.Process(pid).memory_full_info().uss for pid in pids)
    finally:
        fleet.stop()
    return seconds, own / 2**20, len(pids)


if __name__ == "__main__":
    main()
