"""What must hold of a remote teacher before anything is trained, and the spec that its replicas get."""

from __future__ import annotations

from dataclasses import replace

import httpx

from actors.remote.teacher import RemoteTeacher, check_task, remote_fingerprint
from actors.teacher import TeacherSpec
from tutelage.config.models import TeacherConfig
from tutelage.config.remote import OpenAIRemote, Remote
from tutelage.config.task import Task
from tutelage.errors import ConfigError
from tutelage.signals.spec import PayloadSpec

SHARE_OF_DEADLINE = 0.9
"""The client must give up before the stream does, or the stream would ask again what is still under way."""


def remote_spec(
    teacher: TeacherConfig,
    task: Task,
    *,
    tokenizer: str,
    max_tokens: int,
    deadline_s: float,
    transport: httpx.BaseTransport | None = None,
) -> TeacherSpec:
    """The spec of a teacher with `remote`, its fingerprint from what the server says of itself.

    Args:
        teacher: a teacher of the job whose `remote` is set.
        task: the job's task.
        tokenizer: folder of teachers.*.tokenizer; empty when that is null.
        max_tokens: the teacher's limit, or the data's.
        deadline_s: stream.deadline_s.
        transport: instead of the network, in tests.

    Raises:
        ConfigError: keys that cannot go together, before anything is sent.
        TeacherError: the server is not reachable or not ready, or has no such model.
    """
    remote = teacher.remote
    if remote is None:
        raise ValueError(f"teacher {teacher.name} is not remote")
    check_keys(teacher, task, deadline_s)
    spec = TeacherSpec(
        name=teacher.name,
        model=teacher.model,
        tokenizer=tokenizer,
        label_order=tuple(_order(teacher, task)),
        max_tokens=max_tokens,
        threads=1,
        fingerprint="",
        task=task,
        remote=remote,
    )
    client = RemoteTeacher(spec, "setup", transport=transport)
    try:
        return replace(spec, fingerprint=remote_fingerprint(spec, client.identity))
    finally:
        client.close()


def check_payload(
    spec: TeacherSpec,
    payload: PayloadSpec,
    student_tokenizer: str,
    *,
    transport: httpx.BaseTransport | None = None,
) -> None:
    """Ask the server one tiny question in the payload, and for causal-lm compare the vocabularies.

    Raises:
        ModelError: the student's tokenizer is another one than teachers.*.tokenizer.
        ConfigError: a payload that such a server cannot give.
        TeacherError: the server's answer cannot serve the payload; it names the server's limit.
    """
    if isinstance(spec.remote, OpenAIRemote):
        from tutelage.models.load import load_tokenizer
        from tutelage.models.vocabulary import check_vocabulary

        check_vocabulary(
            f"teachers.{spec.name}.tokenizer",
            load_tokenizer(student_tokenizer),
            load_tokenizer(spec.tokenizer),
        )
    client = RemoteTeacher(spec, "setup", transport=transport)
    try:
        client.probe(payload)
    finally:
        client.close()


def check_keys(teacher: TeacherConfig, task: Task, deadline_s: float) -> None:
    """What can be said of the keys alone. Raises ConfigError."""
    remote: Remote | None = teacher.remote
    assert remote is not None
    key = f"teachers.{teacher.name}"
    check_task(teacher.name, remote.type, task.type)
    if teacher.finetune is not None:
        raise ConfigError(
            f"{key} has finetune and remote: a server cannot be trained here", fix="remove one of them"
        )
    if teacher.num_gpus:
        raise ConfigError(
            f"{key}.num_gpus is {teacher.num_gpus:g}: a client needs no GPU",
            fix=f"{key}.num_gpus=0, num_cpus=0.1",
        )
    if remote.timeout_s > SHARE_OF_DEADLINE * deadline_s:
        raise ConfigError(
            f"{key}.remote.timeout_s is {remote.timeout_s:g}, stream.deadline_s is {deadline_s:g}: the "
            "stream would ask again while the client still waits",
            fix=f"{key}.remote.timeout_s={SHARE_OF_DEADLINE * deadline_s:g}, or a longer stream.deadline_s",
        )
    if isinstance(remote, OpenAIRemote) and teacher.tokenizer is None:
        raise ConfigError(
            f"{key}.tokenizer is null: an openai server is asked in token ids",
            fix=f"write {key}.tokenizer: the folder or name of the server's model's tokenizer",
        )


def _order(teacher: TeacherConfig, task: Task) -> list[int]:
    """For each task label, the server's column that means it; empty for tasks without labels."""
    if not task.labels:
        return []
    key = f"teachers.{teacher.name}.labels"
    if teacher.labels is None:
        raise ConfigError(
            f"{key} is null: the server does not say what its {len(task.labels)} columns mean",
            fix=f"write {key} with the task's labels in the order of the server's columns",
        )
    if sorted(teacher.labels) != sorted(task.labels):
        raise ConfigError(
            f"{key} are {teacher.labels}, task.labels are {task.labels}",
            fix=f"write {key} with the task's labels in the order of the server's columns",
        )
    return [teacher.labels.index(label) for label in task.labels]
