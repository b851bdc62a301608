"""The other ways: a loop with all teachers in the process, TextBrewer, and teachers behind JSON over HTTP."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.wall_clock.job import TEMPERATURE, Course, keep, kl, mean_target, tensors
from tutelage.config.schedule import value_at
from tutelage.models.load import load_classifier, load_tokenizer

TEXTBREWER = "pip install --no-deps textbrewer==0.2.1.post1"


def loop(course: Course, folder: Path) -> Path:
    """All teachers in this process, asked one after another in every step of every epoch."""
    torch.set_num_threads(2)
    teachers = [load_classifier(spec.model) for spec in course.specs]

    def ask(batch: Any) -> list[Tensor]:
        with torch.inference_mode():
            return [teacher(**tensors(batch)).logits for teacher in teachers]

    return _train(course, folder, ask)


def json_http(course: Course, folder: Path) -> Path:
    """Each teacher is a server process that answers texts with JSON; all are asked at once."""
    torch.set_num_threads(2)
    with _servers(course) as urls, ThreadPoolExecutor(len(urls)) as pool:

        def ask(batch: Any) -> list[Tensor]:
            texts = batch.texts
            return list(pool.map(lambda url: _post(url, texts), urls))

        return _train(course, folder, ask)


def textbrewer(course: Course, folder: Path) -> Path:
    """TextBrewer's MultiTeacherDistiller: the mean of the teachers' logits, asked one after another."""
    try:
        from textbrewer import DistillationConfig, MultiTeacherDistiller, TrainingConfig
    except ImportError:
        raise SystemExit(f"TextBrewer is missing: {TEXTBREWER}") from None
    logging.getLogger().setLevel(logging.ERROR)
    torch.set_num_threads(2)
    student = course.student()
    optimizer = course.optimizer(student)
    distiller = MultiTeacherDistiller(
        TrainingConfig(output_dir=str(folder / "out"), log_dir=None, ckpt_frequency=0, device="cpu"),
        DistillationConfig(temperature=TEMPERATURE, kd_loss_type="ce", hard_label_weight=0),
        [load_classifier(spec.model) for spec in course.specs],
        student,
        lambda batch, output: {"logits": output.logits},
        lambda batch, output: {"logits": output.logits},
    )
    rates = {"lr_lambda": lambda step: course.rate(step) / value_at(course.space.job.train.lr, 0)}
    with distiller:
        distiller.train(
            optimizer,
            _Loader(course),
            num_epochs=course.space.job.train.epochs,
            scheduler_class=torch.optim.lr_scheduler.LambdaLR,
            scheduler_args=rates,
            max_grad_norm=course.space.job.train.clip,
        )
    return keep(student, folder)


class _Loader:
    """The batches of one epoch after another, as a DataLoader gives them."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._epoch = 0

    def __len__(self) -> int:
        return self._course.plan.steps_per_epoch

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        for batch in self._course.epoch(self._epoch):
            yield tensors(batch)
        self._epoch += 1


def _train(course: Course, folder: Path, ask: Callable[[Any], list[Tensor]]) -> Path:
    train = course.space.job.train
    student = course.student()
    optimizer = course.optimizer(student)
    step = 0
    for epoch in range(train.epochs):
        for batch in course.epoch(epoch):
            for group in optimizer.param_groups:
                group["lr"] = course.rate(step)
            loss = kl(student(**tensors(batch)).logits, mean_target(ask(batch)))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(student.parameters(), train.clip)
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    return keep(student, folder)


def _post(url: str, texts: list[str]) -> Tensor:
    body = json.dumps({"texts": texts}).encode()
    request = urllib.request.Request(url, body, {"Content-Type": "application/json"})  # noqa: S310
    with urllib.request.urlopen(request) as reply:  # noqa: S310
        return torch.tensor(json.load(reply)["logits"])


@contextmanager
def _servers(course: Course) -> Iterator[list[str]]:
    """A server process for each teacher, ready to answer."""
    started = []
    try:
        for spec in course.specs:
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            command = [sys.executable, "-m", "benchmarks.wall_clock.rivals", spec.model, str(port)]
            started.append((subprocess.Popen(command), f"http://127.0.0.1:{port}/score"))
        for _, url in started:
            _wait(url)
        yield [url for _, url in started]
    finally:
        for process, _ in started:
            process.terminate()
        for process, _ in started:
            process.wait()


def _wait(url: str) -> None:
    for _ in range(600):
        try:
            _post(url, ["ready?"])
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"{url} does not answer")


def serve(folder: str, port: int) -> None:
    """A teacher behind JSON over HTTP."""
    import uvicorn
    from fastapi import Body, FastAPI

    torch.set_num_threads(1)
    model, tokenizer = load_classifier(folder), load_tokenizer(folder)
    app = FastAPI()

    @app.post("/score")
    def score(texts: list[str] = Body(embed=True)) -> dict[str, Any]:  # noqa: B008
        tokens = tokenizer(texts, truncation=True, max_length=48, padding=True, return_tensors="pt")
        with torch.inference_mode():
            return {"logits": model(**tokens).logits.tolist()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


if __name__ == "__main__":
    serve(sys.argv[1], int(sys.argv[2]))
