"""One job from its file, the environment and the command line; each value knows where it came from.

Order, the later wins: default, file, environment (`TUTELAGE__TRAIN__LR`), command line (`train.lr=3e-5`).
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutelage.config.dump import is_leaf, to_yaml
from tutelage.config.explain import validate_job
from tutelage.config.job import JobConfig
from tutelage.config.models import FinetuneConfig
from tutelage.config.overrides import Origins, apply_overrides, environment_overrides, parse_override
from tutelage.config.runtime import StreamConfig
from tutelage.config.shape import dotted
from tutelage.config.store import StoreConfig
from tutelage.config.update import UpdateConfig
from tutelage.config.yaml_source import KeyPath, parse_yaml
from tutelage.errors import ConfigError
from tutelage.files import digest_text

_TRAIN_PLACE = {"cpus_per_worker", "gpus_per_worker", "threads", "max_failures"}
_TEACHER_PLACE = {
    "min_replicas": True,
    "max_replicas": True,
    "num_cpus": True,
    "num_gpus": True,
    "threads": True,
    "remote": {"timeout_s", "retries", "batch", "max_reply_mb", "api_key_env", "insecure"},
}

_FINETUNE_PLACE: dict[str, Any] = {"train": _TRAIN_PLACE}
_TEACHERS_PLACE: dict[str, Any] = {"__all__": {**_TEACHER_PLACE, "finetune": _FINETUNE_PLACE}}

_STREAM_DECIDES: dict[str, Any] = {"on_loss": True, "planner": True, "store": {"max_gb"}}
"""A teacher that is lost may be left out; the planner's figures choose what each teacher sends."""
_STREAM_PLACE = {name: True for name in StreamConfig.model_fields if name not in _STREAM_DECIDES} | {
    "store": set(StoreConfig.model_fields) - {"max_gb"}
}

WHERE_IT_RUNS: dict[str, Any] = {
    "ray": True,
    "serve": True,
    "search": True,
    "stream": _STREAM_PLACE,
    "update": True,
    "train": _TRAIN_PLACE,
    "teachers": _TEACHERS_PLACE,
}
"""Keys that say where and how fast a job runs, and what is searched; they are no part of its digest."""


def decided_by_stream(job: JobConfig) -> str:
    """The keys of `stream` that decide a result, as JSON."""
    return job.stream.model_dump_json(include=_STREAM_DECIDES)


def decided_by_finetune(section: FinetuneConfig) -> str:
    """The keys of a teacher's `finetune` that decide a result, as JSON."""
    return section.model_dump_json(exclude=_FINETUNE_PLACE)


def decided_by_update(section: UpdateConfig) -> str:
    """The keys of `update` that decide a result, as JSON."""
    return section.model_dump_json(exclude={"train": _TRAIN_PLACE, "teachers": _TEACHERS_PLACE})


@dataclass(frozen=True)
class LoadedJob:
    """A job that holds together, and the origin of each of its values."""

    job: JobConfig
    provenance: dict[str, str]
    """Dotted leaf key -> `default`, `job.yaml:12`, `environment TUTELAGE__...` or `command line`."""
    path: Path


def load_job(
    path: Path | str, overrides: Sequence[str] = (), environ: Mapping[str, str] | None = None
) -> LoadedJob:
    """Read a job file and what stands above it. Raises ConfigError with every problem at once."""
    path = Path(path)
    document = parse_yaml(_read(path), str(path))
    if document.data is None:
        raise ConfigError(f"{path} is empty", fix="`tutelage init` writes a job file to start from")
    if not isinstance(document.data, dict):
        raise ConfigError(
            f"{path}:1: the file holds a {_kind(document.data)}, a job is a mapping of sections",
            fix="start with `name: my-job`; `tutelage init` writes a whole file",
        )
    origins: Origins = {key: f"{path}:{line}" for key, line in document.lines.items()}
    return _load(document.data, origins, path, overrides, environ)


def load_recorded(data: dict[str, Any], name: str, overrides: Sequence[str] = ()) -> LoadedJob:
    """A job that the registry keeps, and what stands above it; `name` says where it is from."""
    return _load(data, {}, Path(name), overrides, None)


def _load(
    data: dict[str, Any],
    origins: Origins,
    path: Path,
    overrides: Sequence[str],
    environ: Mapping[str, str] | None,
) -> LoadedJob:
    environ = os.environ if environ is None else environ
    for layer in (environment_overrides(environ), [parse_override(text) for text in overrides]):
        apply_overrides(data, origins, layer, JobConfig)
    job = validate_job(data, origins, str(path))
    return LoadedJob(job, _provenance(job, origins), path)


def dump_yaml(job: JobConfig) -> str:
    """The whole job as YAML, defaults included; loading it gives an equal job."""
    return to_yaml(job.model_dump(mode="json"))


def job_digest(job: JobConfig) -> str:
    """64 hex digits of the experiment: equal for equal jobs, wherever and on however much they run."""
    canonical = _canonical(job.model_dump(mode="json", exclude=WHERE_IT_RUNS))
    return digest_text(json.dumps(canonical, sort_keys=True, separators=(",", ":"), ensure_ascii=True))


def _canonical(value: Any) -> Any:
    """1 and 1.0 are one number: a default is an integer where a file may hold a float."""
    if isinstance(value, dict):
        return {key: _canonical(below) for key, below in value.items()}
    if isinstance(value, list):
        return [_canonical(below) for below in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"there is no file {path}", fix=_nearby(path)) from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a folder, not a job file", fix=_nearby(path / "job.yaml")) from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: byte {error.start} is not UTF-8", fix="save the file as UTF-8") from None
    except OSError as error:
        raise ConfigError(
            f"{path} cannot be read: {error.strerror}", fix="check the path and its rights"
        ) from None


def _nearby(path: Path) -> str:
    """A suggestion from the files that stand where the missing one was looked for."""
    if not path.parent.is_dir():
        return f"the folder {path.parent} does not exist either; `tutelage init` writes a job file"
    jobs = sorted(p.name for p in path.parent.iterdir() if p.suffix in (".yaml", ".yml"))
    near = difflib.get_close_matches(path.name, jobs, n=3, cutoff=0.4) or jobs[:5]
    if not near:
        return "`tutelage init` writes a job file to start from"
    return "did you mean " + ", ".join(str(path.parent / name) for name in near) + "?"


def _kind(value: Any) -> str:
    return "list" if isinstance(value, list) else "single value"


def _provenance(job: JobConfig, origins: Origins) -> dict[str, str]:
    data = job.model_dump(mode="json")
    return {dotted(path, data): origins.get(path, "default") for path in _leaves(data)}


def _leaves(value: Any, path: KeyPath = ()) -> Iterator[KeyPath]:
    if is_leaf(value):
        yield path
        return
    for key, below in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _leaves(below, (*path, key))
