"""Jobs that cannot be meant end with exit code 2 and a fix, before Ray is touched.

RAY_ADDRESS names a port where nothing listens: a command that reaches for Ray ends with 3 instead.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.e2e import e2e_samples as sample
from tutelage.testing import tiny_classifier

pytestmark = pytest.mark.e2e

Job = dict[str, Any]
NO_RAY = "127.0.0.1:9"


def _unknown_key(job: Job, _folder: Path) -> None:
    job["train"]["epoch"] = 3


def _no_label_column(job: Job, _folder: Path) -> None:
    job["data"]["sources"]["books"]["columns"] = {"label": None}


def _no_labels_in_the_file(job: Job, folder: Path) -> None:
    (folder / "bare.jsonl").write_text('{"text": "books_word_1 books_word_2"}\n' * 60)
    job["data"]["sources"]["books"]["path"] = str(folder / "bare.jsonl")


def _labels_not_to_be_used(job: Job, _folder: Path) -> None:
    job["teachers"][0]["finetune"]["data"]["books"] = {"labels": 0}


def _other_labels(job: Job, folder: Path) -> None:
    model = tiny_classifier(folder / "stars", ["one", "two"], seed=9)
    job["teachers"][0] = {"name": "books", "model": model}


def _no_teacher_folder(job: Job, folder: Path) -> None:
    job["teachers"][0] = {"name": "books", "model": str(folder / "nowhere")}


def _batch_not_divisible(job: Job, _folder: Path) -> None:
    job["train"].update(batch_size=8, workers=3)


def _fp16_on_cpu(job: Job, _folder: Path) -> None:
    job["train"]["precision"] = "fp16"


def _layer_too_many(job: Job, _folder: Path) -> None:
    job["student"]["layers"] = [0, 7]


CASES: dict[str, tuple[Callable[[Job, Path], None], list[str]]] = {
    "unknown key": (_unknown_key, ["train", "'epoch'", "did you mean 'epochs'"]),
    "no label column": (_no_label_column, ["teachers.books.finetune.data", "no label column"]),
    "no labels in the file": (_no_labels_in_the_file, ["books", "label"]),
    "labels not to be used": (_labels_not_to_be_used, ["teachers.books.finetune.data.books.labels", "0"]),
    "other labels": (_other_labels, ["teachers.books", "['one', 'two']", "['negative', 'positive']"]),
    "no teacher folder": (_no_teacher_folder, ["nowhere"]),
    "batch not divisible": (_batch_not_divisible, ["batch_size 8", "workers 3", "use 9"]),
    "fp16 on a CPU": (_fp16_on_cpu, ["fp16", "gpus_per_worker"]),
    "a layer too many": (_layer_too_many, ["student.layers [0, 7]", "0 to 1"]),
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, sample.Answer]:
    """All bad jobs, two at a time."""
    folder = tmp_path_factory.mktemp("bad")
    cli, good = sample.Cli(folder, folder / "home"), sample.job(folder)

    def ask(name: str) -> sample.Answer:
        bad = copy.deepcopy(good)
        place = folder / name.replace(" ", "-")
        place.mkdir()
        CASES[name][0](bad, place)
        job = sample.write_job(place / "job.yaml", bad)
        return cli.run("distill", job, "--json", timeout_s=60, RAY_ADDRESS=NO_RAY)

    try:
        with ThreadPoolExecutor(2) as pool:
            return dict(zip(CASES, pool.map(ask, CASES), strict=True))
    finally:
        cli.end()


@pytest.mark.parametrize("name", CASES)
def test_a_bad_job_ends_with_2_before_ray(answers: dict[str, sample.Answer], name: str) -> None:
    """Exit code 2; key, value and what is allowed on stderr; the same as JSON on stdout; no traceback."""
    answer = answers[name]
    assert answer.code == 2, answer.err
    for words in CASES[name][1]:
        assert words in answer.err, answer.err
    assert "Traceback" not in answer.err
    assert answer.json["error"]["exit_code"] == 2
    assert answer.json["error"]["fix"]


def test_a_good_job_reaches_for_ray(cli: sample.Cli) -> None:
    """The same command on the good job ends with 3 and names the address: the codes above say something."""
    job = sample.write_job(cli.folder / "job.yaml", sample.job(cli.folder))
    answer = cli.run("distill", job, "--json", timeout_s=120, RAY_ADDRESS=NO_RAY)
    assert answer.code == 3, answer.err
    assert NO_RAY in answer.err
    assert answer.json["error"]["kind"] == "ClusterError"
