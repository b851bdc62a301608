"""The job: all sections, and what must hold between them before anything is loaded."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import Field, model_validator

from tutelage.config.base import Section, Slug, unknown_key
from tutelage.config.data import TASK_COLUMNS, DataConfig, Pick
from tutelage.config.models import StudentConfig, TeacherConfig
from tutelage.config.objectives import (
    JSD,
    KL,
    Combiner,
    Confidence,
    Objective,
    Uniform,
    Validated,
    Weighted,
)
from tutelage.config.on_policy import OnPolicy
from tutelage.config.runtime import ExportConfig, RayConfig, ServeConfig, StreamConfig
from tutelage.config.schedule import extremes, peak, say, stretch_of_zeros
from tutelage.config.search import SearchConfig
from tutelage.config.task import Task
from tutelage.config.train import TrainConfig
from tutelage.config.update import UpdateConfig

HEARS_TEACHERS = ("kl", "jsd")
"""Objectives that learn from teachers."""


class JobConfig(Section):
    """Everything one YAML file says."""

    name: Slug
    """What runs, versions and the endpoint of this job are called."""
    seed: int = Field(default=0, ge=0, lt=2**31)
    """Of every random choice: shuffling, dropout, new weights."""
    task: Task
    data: DataConfig
    teachers: list[TeacherConfig] = Field(default=[])
    student: StudentConfig
    combiner: Combiner = Uniform()
    """How the distributions of several teachers become the one target of `kl`."""
    objectives: list[Objective] = Field(min_length=1)
    """Loss terms; each type at most once. Their weighted sum is what the student minimises."""
    on_policy: OnPolicy | None = None
    """Causal-lm: let the student write texts and the teachers score them; null reads the data alone."""
    train: TrainConfig = TrainConfig()
    stream: StreamConfig = StreamConfig()
    export: ExportConfig = ExportConfig()
    serve: ServeConfig = ServeConfig()
    search: SearchConfig = SearchConfig()
    update: UpdateConfig | None = None
    """How `tutelage update` learns from new data; with it, exports carry the state that this needs."""
    ray: RayConfig = RayConfig()

    @model_validator(mode="after")
    def _sections_agree(self) -> JobConfig:
        self._check_columns()
        names = [teacher.name for teacher in self.teachers]
        _once("teachers", names)
        for teacher in self.teachers:
            if teacher.finetune:
                self._check_picks(
                    f"teachers.{teacher.name}.finetune.data", teacher.finetune.data, need_labels=True
                )
            if teacher.labels is not None and sorted(teacher.labels) != sorted(self.task.labels):
                raise ValueError(
                    f"teachers.{teacher.name}.labels are {teacher.labels}, "
                    f"task.labels are {self.task.labels}; a teacher needs the same labels, in any order"
                )
        if self.student.data is not None:
            self._check_picks("student.data", self.student.data, need_labels=False)
        if isinstance(self.combiner, Weighted):
            _same_names("combiner.weights", self.combiner.weights, names)
        self._check_objectives(names)
        self._check_on_policy()
        self._check_servers()
        return self

    def _check_picks(self, key: str, picks: dict[str, Pick], *, need_labels: bool) -> None:
        for name, pick in picks.items():
            if name not in self.data.sources:
                raise ValueError(f"{key}: {unknown_key(name, self.data.sources)}")
            source = self.data.sources[name]
            if source.split not in (None, "train"):
                raise ValueError(
                    f"{key}: source '{name}' is all {source.split}; only train rows are trained on"
                )
            if need_labels and source.label is None and source.columns.gold(self.task.type) is None:
                column = "answers" if self.task.type == "question-answering" else "label"
                column = "tags" if self.task.type == "token-classification" else column
                raise ValueError(f"{key}: source '{name}' has no label column (columns.{column} is null)")
            if need_labels and pick.labels == 0:
                raise ValueError(f"{key}.{name}.labels is 0; a fine-tuning learns from labels alone")

    def _check_columns(self) -> None:
        """Columns and labels of sources are those of the task."""
        task = self.task
        for name, source in self.data.sources.items():
            key, columns = f"data.sources.{name}", source.columns
            if source.label is not None and task.type != "sequence-classification":
                raise ValueError(f"{key}.label: {task.type} has no label of a whole text; remove it")
            strange = columns.foreign(task.type)
            if strange:
                raise ValueError(
                    f"{key}.columns.{strange[0]}: {task.type} does not read it; "
                    f"its columns are {', '.join(TASK_COLUMNS[task.type])}"
                )
            if source.labels and not task.labels:
                raise ValueError(f"{key}.labels: {task.type} has no labels to map to")
            if task.type == "causal-lm" and task.completion_only and columns.prompt is None:
                raise ValueError(
                    f"{key}.columns: task.completion_only needs columns.prompt and columns.completion"
                )

    def _check_objectives(self, teachers: list[str]) -> None:
        _once("objectives", [objective.type for objective in self.objectives])
        if all(peak(objective.weight) <= 0 for objective in self.objectives):
            raise ValueError("objectives: the weights sum to 0, so nothing would be learned")
        zeros = stretch_of_zeros([objective.weight for objective in self.objectives])
        if zeros is not None:
            raise ValueError(
                f"objectives: from progress {zeros[0]:g} to {zeros[1]:g} the weights sum to 0, "
                "so nothing would be learned there"
            )
        hearing = [o.type for o in self.objectives if o.type in HEARS_TEACHERS and peak(o.weight) > 0]
        if hearing and not teachers:
            raise ValueError(f"objectives: '{hearing[0]}' needs at least one entry in teachers")
        if teachers and not hearing:
            raise ValueError(
                "objectives: no 'kl' or 'jsd' with a weight above 0, so the teachers would be asked "
                "and not heard; add {type: kl} or remove the teachers"
            )
        if isinstance(self.combiner, Confidence | Validated) and len(teachers) == 1:
            raise ValueError(
                f"combiner: '{self.combiner.type}' chooses between teachers; with one, use uniform"
            )

    def _check_servers(self) -> None:
        """Servers of completions give log-probabilities at temperature 1 alone."""
        for teacher in self.teachers:
            if teacher.remote is None or (teacher.remote.type, self.task.type) != ("openai", "causal-lm"):
                continue
            for objective in self.objectives:
                if not isinstance(objective, KL | JSD) or peak(objective.weight) <= 0:
                    continue
                if extremes(objective.temperature) != (1, 1):
                    raise ValueError(
                        f"objectives.{objective.type}.temperature is {say(objective.temperature)}: teacher "
                        f"'{teacher.name}' is an openai server, which knows temperature 1 alone; set it to 1"
                    )

    def _check_on_policy(self) -> None:
        if self.on_policy is None:
            return
        if self.task.type != "causal-lm":
            raise ValueError(f"on_policy: only a causal-lm writes texts, and task.type is {self.task.type}")
        if not self.teachers:
            raise ValueError("on_policy: nobody scores what the student writes; add teachers")
        if self.on_policy.fraction == 0:
            raise ValueError("on_policy.fraction is 0: remove on_policy")


def _once(key: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ValueError(f"{key}: '{name}' stands twice")
        seen.add(name)


def _same_names(key: str, given: Iterable[str], known: list[str]) -> None:
    for name in given:
        if name not in known:
            raise ValueError(f"{key}: {unknown_key(name, known)}")
    missing = [name for name in known if name not in set(given)]
    if missing:
        raise ValueError(
            f"{key}: no weight for {', '.join(missing)}; a teacher without weight is better removed"
        )
