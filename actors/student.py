"""A training as a Ray Train job: the worker's part, and the driver's.

The worker resumes from the run's newest checkpoint, whoever was killed: one worker (Ray Train starts
the group again) or the driver (the same command finds the same run).
"""

from __future__ import annotations

import json
import logging
import math
import queue
import resource
import socket
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from actors.board import Poster, pulse
from actors.counters import TeacherCounters
from actors.lean_trainer import Ending, certain, lean_trainer, said
from actors.live import together, topic
from actors.members import Fleets
from actors.reasons import named_reason, out_of_memory, reason
from actors.signals import stops_ignored
from actors.silence import LOOK_S, PATIENCE_S, Silence
from actors.training import Training, TrainState
from tutelage.config.update import SI
from tutelage.continual.importance import write_tensors
from tutelage.data.folders import whole_folder
from tutelage.errors import DivergedError, TrainError
from tutelage.progress import Stage

if TYPE_CHECKING:
    from actors.channel import TeacherChannel
    from actors.engine import Engine

LOG = logging.getLogger(__name__)
END_S = 10.0
"""Longest wait for trainings that were told to end."""
PATH_FILE = "path/importance.safetensors"
"""Below the trained model's folder: what synaptic intelligence gathered."""
_STATE, _BEST = "state.json", "best.safetensors"


def fit(
    training: Training, members: Fleets, board: Poster, ending: Ending, patience_s: float = PATIENCE_S
) -> dict[str, Any]:
    """Run a training on Ray Train and return its result. Raises TrainError.

    Workers that do not come are asked for again until `patience_s` have gone by.

    The result holds `points`, `chosen` (what was measured of the weights that were kept), `teachers` (views
    at the end), `notes`, `steps`, `seconds`, `waited_s`, `precision`.
    """
    import ray.train
    import ray.train.torch

    train = training.train
    api: Any = ray.train  # its annotations are still those of the first Ray Train
    trainer = lean_trainer(ending)(
        train_worker,
        train_loop_config={"training": training, "members": members, "board": board},
        scaling_config=api.ScalingConfig(
            num_workers=train.workers,
            use_gpu=train.gpus_per_worker > 0,
            resources_per_worker={"CPU": train.cpus_per_worker}
            | ({"GPU": train.gpus_per_worker} if train.gpus_per_worker else {}),
        ),
        run_config=api.RunConfig(
            name="train",
            storage_path=f"{training.storage}/{training.run}",
            failure_config=api.FailureConfig(
                max_failures=train.max_failures, controller_failure_limit=_tries(patience_s)
            ),
            checkpoint_config=api.CheckpointConfig(num_to_keep=2),
            logging_config=api.LoggingConfig(log_level="ERROR"),
        ),
    )
    try:
        return cast(dict[str, Any], trainer.fit().return_value)
    except ray.train.TrainingFailedError as error:
        raise _failure(training.run, error) from error


def fit_all(
    trainings: dict[str, Training],
    members: Fleets,
    board: Poster,
    stage: Stage | None = None,
    patience_s: float = PATIENCE_S,
) -> dict[str, dict[str, Any]]:
    """Fit several trainings, as many at a time as the cluster's CPUs hold; results by the same names.

    Each `fit` waits in a thread of its own, so Ctrl-C reaches the caller, which ends them all.
    Raises the first TrainError; the other trainings are ended.

    Args:
        stage: told what is waited for.
        patience_s: a training whose workers give no sign of life for so long ends with a TrainError.
    """
    import ray

    resources: Any = ray.cluster_resources  # Ray leaves it unannotated
    need = max(_cpus(training) for training in trainings.values())
    room = threading.Semaphore(int(max(1.0, resources().get("CPU", 1.0) / need)))
    ended: queue.Queue[tuple[str, dict[str, Any] | Exception]] = queue.Queue()
    ending, silence = Ending(), Silence(patience_s)

    def run(name: str) -> None:
        with room:
            if ending.asked:
                return
            training = trainings[name]
            try:
                silence.began(training.run, _cpus(training))
                ended.put((name, fit(training, members, board, ending, patience_s)))
            except Exception as error:  # handed to the caller, who raises it
                ended.put((name, error))
                ending.ask()  # before there is room for another
            finally:
                silence.ended(training.run)

    threads = [
        threading.Thread(target=run, args=(name,), name=f"fit-{name}", daemon=True) for name in trainings
    ]
    results: dict[str, dict[str, Any]] = {}
    try:
        for thread in threads:
            thread.start()
        while len(results) < len(trainings):
            try:
                name, result = ended.get(timeout=LOOK_S)
            except queue.Empty:
                words = silence.hear(board.ages())
                if stage is not None:
                    stage.waits(words)
                continue
            if isinstance(result, Exception):
                raise result
            results[name] = result
    finally:
        with stops_ignored():
            ending.ask()
            end = time.monotonic() + END_S
            for thread in threads:
                if thread.ident is not None:
                    thread.join(max(0.0, end - time.monotonic()))
    return results


def _cpus(training: Training) -> float:
    return training.train.workers * training.train.cpus_per_worker


def _tries(patience_s: float) -> int:
    """How often Ray Train waits its minute for workers."""
    return max(3, math.ceil(min(patience_s, 1e6) / 60))


def train_worker(config: dict[str, Any]) -> dict[str, Any]:
    """What each Ray Train worker runs."""
    import ray.train

    rank: int = ray.train.get_context().get_world_rank()
    with pulse(config["board"], topic(config["training"].run, rank)):
        return _train(config)


def _train(config: dict[str, Any]) -> dict[str, Any]:
    import ray.train
    import torch

    from actors.engine import Engine, is_sharded, to_universal
    from actors.trainer import Trainer
    from actors.worker import RayKeeper, TorchWorld, open_stream, pick_precision, quiet
    from tutelage.data.examples import Examples
    from tutelage.models.load import load_tokenizer
    from tutelage.models.padding import settle_padding

    quiet()
    began = time.monotonic()
    training: Training = config["training"]
    train = training.train
    torch.set_num_threads(train.threads or max(1, round(train.cpus_per_worker)))
    world = TorchWorld()
    torch.manual_seed(training.seed)
    model = training.model(train.dropout)
    tokenizer = load_tokenizer(training.tokenizer)
    pad_id = settle_padding(model, tokenizer)
    precision = pick_precision(train.precision)
    checkpoint = ray.train.get_checkpoint()
    state, best = TrainState(), None
    with tempfile.TemporaryDirectory(prefix="tutelage-") as scratch:
        saved = Path(scratch) / "resume"
        universal = False
        if checkpoint is not None:
            checkpoint.to_directory(str(saved))
            kept = json.loads((saved / _STATE).read_text())
            state, best = TrainState(**kept["state"]), _read_best(saved)
            universal = kept["workers"] != world.size and is_sharded(saved)
        engine = Engine(model, train, precision, world.size, universal=universal)
        if training.increment is not None:
            engine.hold(training.increment)
        if checkpoint is not None:
            engine.load(to_universal(saved) if universal else saved, saved)
        examples = Examples.open(training.examples)
        stream = open_stream(training, config["members"], examples)
        keeper = RayKeeper(training, engine, stream, world, config["board"], state)
        trainer = Trainer(
            training,
            engine,
            examples,
            stream,
            world,
            keeper,
            pad_id=pad_id,
            end_id=tokenizer.eos_token_id,
        )
        started_mb = _peak_mb()
        LOG.info(
            "%s: worker %d of %d begins at step %d of %d, %s, on %s, after %.0f s of loading",
            *(training.run, world.rank + 1, world.size, state.step, trainer.total, precision),
            *(socket.gethostname(), time.monotonic() - began),
        )
        weights = trainer.run(state, best)
        path = path_importance(training, engine)
    result = {
        "run": training.run,
        "points": state.points,
        "chosen": state.chosen,
        "kept": state.kept,
        "steps": state.step,
        "stopped_early": state.stopped_early,
        "seconds": state.seconds,
        "waited_s": stream.waited_s,
        "precision": precision,
        "peak_memory_mb": _peak_mb(),
        "grown_memory_mb": _peak_mb() - started_mb,
        "workers": world.size,
        **_gather(stream.channels, keeper.teachers(), world.size),
    }
    LOG.info("%s: worker %d ends after step %d", training.run, world.rank + 1, state.step)
    if world.rank == 0:
        _write_model(training, weights, tokenizer, result, path)
    return result


def path_importance(training: Training, engine: Engine) -> dict[str, Any] | None:
    """What synaptic intelligence gathered, by name of parameter. Collective."""
    increment = training.increment
    if increment is None or not isinstance(increment.regulariser, SI):
        return None
    return engine.path_importance(increment.regulariser.xi)


def _write_model(
    training: Training,
    weights: dict[str, Any],
    tokenizer: Any,
    result: dict[str, Any],
    path: dict[str, Any] | None = None,
) -> None:
    """Save the trained model as a plain folder that appears whole: LoRA merged, tokenizer beside it."""
    from tutelage.models.load import merged

    model = training.model()
    model.load_state_dict(weights, strict=True)
    check = training.fence.check if training.fence else None
    with whole_folder(Path(training.output), replace=True, check=check) as folder:
        merged(model).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        if path is not None:
            write_tensors(folder / PATH_FILE, path, {})
        (folder / "result.json").write_text(json.dumps(result))


def _peak_mb() -> float:
    """Largest resident set of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _read_best(folder: Path) -> dict[str, Any] | None:
    from safetensors.torch import load_file

    path = folder / _BEST
    return load_file(path) if path.exists() else None


def _gather(
    channels: list[TeacherChannel], views: dict[str, dict[str, float]], workers: int
) -> dict[str, Any]:
    """What all workers say together of each teacher (`teachers`), and what they noted (`notes`)."""
    import torch.distributed as dist

    own = {channel.name: (channel.counters, views[channel.name], channel.notes) for channel in channels}
    everyone = [own] * workers
    if workers > 1:
        dist.all_gather_object(everyone, own)
    teachers: dict[str, dict[str, float]] = {}
    notes: dict[str, None] = {}
    for name in own:
        counters, said, noted = zip(*(worker[name] for worker in everyone), strict=True)
        # Medians over workers need all times, which the counters have and the views have not.
        teachers[name] = {**together(list(said)), **TeacherCounters.total(list(counters)).to_json()}
        notes |= dict.fromkeys(note for worker in noted for note in worker)
    return {"teachers": teachers, "notes": list(notes)}


def _failure(run: str, error: Exception) -> TrainError:
    """Why a training ended, in the worker's own words."""
    ours = said(error)
    if ours is not None:
        kind = DivergedError if isinstance(ours, DivergedError) else TrainError
        return kind(ours.problem if ours.problem.startswith(run) else f"{run}: {ours.problem}", fix=ours.fix)
    failures = getattr(error, "worker_failures", None) or {}
    sure = certain(error)
    text = reason(next(iter(failures.values()), error)) if sure is None else named_reason(sure)
    if any(out_of_memory(one) for one in (error, *failures.values())):
        fix = "lower train.batch_size or train.micro_batch_size, or raise train.zero_stage"
    elif sure is not None:
        fix = "repeating would end the same: correct what it names, in the job or the model's folder"
    else:
        fix = "repeat the command: it goes on from the last checkpoint; --fresh starts again"
    return TrainError(f"{run}: {text}", fix=fix)
