"""The state of a version that has none: measured on the data of the job that it came from."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from actors.session import Session
    from tutelage.cli.update_order import Ordered
    from tutelage.continual.state import State


def recompute_state(order: Ordered, ray: Session | None, *, plan: bool) -> State:
    """Read the job's data again, measure, and keep the version with its state in a folder of its own.

    The recorded version stays as it is. Raises ConfigError where only a plan is asked for, where its weights
    are not there any more, or where its data cannot be read.
    """
    from actors.evaluate import student_examples
    from actors.judge_student import judge_student
    from actors.update.memory import Trained, first_state
    from actors.workspace import open_workspace
    from tutelage.config import JobConfig
    from tutelage.config.yaml_source import parse_yaml
    from tutelage.continual.state import WEIGHTS, State
    from tutelage.errors import ConfigError, TutelageError

    if plan or ray is None:
        raise ConfigError("--plan with --compute-state: the state is measured first", fix="leave out --plan")
    lineage, version = order.version.card.lineage, order.version
    update = order.job.loaded.job.update
    assert update is not None
    data: Any = parse_yaml(lineage.config_yaml, version.ref).data
    job = JobConfig.model_validate(data).model_copy(update={"update": update})
    home = order.job.home
    weights = next(
        (
            p
            for p in (order.folder / WEIGHTS, home / "runs" / lineage.run_id / "model" / WEIGHTS)
            if p.exists()
        ),
        None,
    )
    if weights is None:
        raise ConfigError(
            f"{version.ref} holds no weights to train on, only ONNX files, and run {lineage.run_id} is not "
            "on this machine",
            fix="export it again where it was trained, with an update section in its job",
        )
    folder = home / "states" / version.id
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(order.folder, folder, ignore=shutil.ignore_patterns("state", WEIGHTS))
    space = open_workspace(job, home, order.job.console)
    with order.job.console.stage("remember") as stage:
        shutil.copyfile(weights, folder / WEIGHTS)
        examples = student_examples(space)
        scores = judge_student(space, folder).scores()
        trained = Trained.of(space, lineage.run_id, folder, examples, job.student.data, scores)
        try:
            kept = State.read(order.folder)
        except TutelageError:  # it is made anew because it is of no use
            kept = None
        groups = None if kept is None or not kept.about.groups else tuple(kept.about.groups)
        return first_state(replace(trained, model=weights.parent), update, folder, folder, stage, groups)
