"""What a student worker is made of on Ray Train: its world, its keeper, its stream."""

from __future__ import annotations

import json
import logging
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import ray.train
import ray.train.torch
import torch
import torch.distributed as dist
from torch import Tensor

from actors.board import Poster
from actors.channel import TeacherChannel
from actors.engine import Engine
from actors.live import topic
from actors.losses import asker
from actors.members import Fleets
from actors.metrics import StreamMetrics
from actors.stream import SignalStream
from actors.training import Training, TrainState
from tutelage.config.train import Precision
from tutelage.data.examples import Examples
from tutelage.models.precision import Type, cpu_flags, resolve_precision
from tutelage.run_log import speak
from tutelage.signals.store.open import open_store

LOG = logging.getLogger(__name__)


class TorchWorld:
    """The process group that Ray Train made."""

    def __init__(self) -> None:
        context = ray.train.get_context()
        self.rank: int = context.get_world_rank()
        self.size: int = context.get_world_size()

    def sum(self, values: Tensor) -> Tensor:
        """The sum over all workers, on every worker."""
        if self.size > 1:
            placed = values.to(ray.train.torch.get_device())
            dist.all_reduce(placed)
            return placed.cpu()
        return values


class RayKeeper:
    """Posts progress on the board and hands checkpoints to Ray Train."""

    def __init__(
        self,
        training: Training,
        engine: Engine,
        stream: SignalStream,
        world: TorchWorld,
        board: Poster,
        state: TrainState,
    ) -> None:
        self._training = training
        self._engine = engine
        self._stream = stream
        self._world = world
        self._board = board
        self._posted = 0.0
        self._state = state
        # What was trained before a resume, another process has waited for.
        self._seconds_before = state.seconds
        self._metrics = StreamMetrics.on_ray(training.run, world.rank)

    def progress(self, state: TrainState, total: int) -> None:
        """Tell the board and Prometheus, at most four times a second."""
        now = time.monotonic()
        if now - self._posted < 0.25 and state.step < total:
            return
        self._posted = now
        teachers = self.teachers()
        self._metrics.publish(teachers)
        self._board.post(
            topic(self._training.run, self._world.rank),
            {
                "step": state.step,
                "total": total,
                "point": state.points[-1] if state.points else {},
                "waited_s": self._stream.waited_s,
                "seconds": self._seconds,
                "teachers": teachers,
            },
        )

    @property
    def _seconds(self) -> float:
        """Time of the steps that this process has taken."""
        return self._state.seconds - self._seconds_before

    def teachers(self) -> dict[str, dict[str, float]]:
        """How it goes with each teacher, and the share of this process's steps spent waiting for it."""
        seconds = max(1e-9, self._seconds)
        return {
            channel.name: {**channel.view(), "wait_share": channel.counters.waited_s / seconds}
            for channel in self._stream.channels
        }

    def checkpoint(self, state: TrainState, best: dict[str, Tensor] | None) -> None:
        """Each worker saves its part into a folder of its own; Ray Train puts them together."""
        from safetensors.torch import save_file

        if self._training.fence is not None:
            self._training.fence.check()
        LOG.info("%s: checkpoint at step %d", self._training.run, state.step)
        with tempfile.TemporaryDirectory(prefix="tutelage-") as name:
            folder = Path(name)
            self._engine.save(folder)
            if self._world.rank == 0:
                kept = {"state": state.to_json(), "workers": self._world.size}
                (folder / "state.json").write_text(json.dumps(kept))
                if best is not None:
                    save_file(best, folder / "best.safetensors")
            ray.train.report({"step": state.step}, checkpoint=ray.train.Checkpoint.from_directory(folder))


def open_stream(training: Training, members: Fleets, examples: Examples) -> SignalStream:
    """The stream of this worker; without teachers it hands batches through."""
    channels = [
        TeacherChannel(name, members[name], spec, training.stream) for name, spec in training.payloads.items()
    ]
    stores = {
        name: open_store(training.stream.store, Path(training.stores[name]), name)
        for name in training.payloads
    }
    return SignalStream(channels, stores, training.stream, asker(training, examples))


def pick_precision(precision: Precision) -> Type:
    """`auto` by this worker's own hardware."""
    cuda = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else None
    return resolve_precision(precision, cuda_bf16=cuda, cpu_flags=cpu_flags())


def quiet() -> None:
    """Keep libraries' chatter low, and have our own words heard in the run's log."""
    import transformers

    words: Any = transformers.utils.logging
    words.set_verbosity_error()
    words.disable_progress_bar()
    logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
    speak()
    warnings.filterwarnings("ignore", category=FutureWarning)
