"""`tutelage init`: a commented job file for one's own data, valid as it is."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.errors import ConfigError

if TYPE_CHECKING:
    from tutelage.cli.console import Console
    from tutelage.cli.found import Found

EXAMPLE_CSV = """text,label
"A warm, funny film with a lovely cast.",positive
"Two hours of nothing happening.",negative
"The battery lasts for days and it feels solid.",positive
"It broke in the first week.",negative
"Best coffee in town, and friendly people.",positive
"Cold food, and we waited for an hour.",negative
"No label here: this row is read as unlabelled.",
"""

TEMPLATE = """\
# A distillation job: several teachers become one small student.
#   tutelage config check {job}     says whether this file holds together
#   tutelage finetune {job}         trains the teachers below
#   tutelage distill {job}          trains the student on their signals
# Any key can be set from outside: `tutelage distill {job} train.lr=1e-4`,
# or TUTELAGE__TRAIN__LR=1e-4 in the environment. docs/config.md lists every key.
name: {name}
seed: 0

task:
  type: sequence-classification
  # Their order is the order of every score in the run.
  labels: {labels}

data:
  max_tokens: 128          # longer texts are cut
  on_bad_row: {on_bad_row:<12} # fail: one bad row ends the run; skip: bad rows are left out and counted
  sources:
    # One entry a domain; reports show each one apart. Rows with an empty label are read as unlabelled.
    {source}:
      path: {path}         # parquet, arrow, jsonl, csv; a folder, a glob or a URL work too
      columns: {columns}{more}
      splits: {splits}

# Each teacher is fine-tuned from `model`: a folder, a hub name, or catalog:NAME. Leave `finetune` out for
# a model that does the task already. Teachers are strongest together when each knows something else:
# another domain, another base model.
teachers:
  - name: whole
    model: catalog:minilm
    num_cpus: 0.5          # of a replica; all teachers and train.workers must fit your cores at once
    finetune: &finetune
      data: {{{source}: {{}}}}
      method: {{type: full}}            # or {{type: partial, freeze_layers: 3}}, {{type: lora, rank: 8}}
      train: {{epochs: 2, lr: 5.0e-5, batch_size: 32}}
  - name: upper
    model: catalog:minilm
    num_cpus: 0.5
    finetune:
      <<: *finetune
      method: {{type: partial, freeze_layers: 3}}

student:
  model: catalog:minilm
  layers: [0, 2, 5]                   # keep these encoder layers
  method: {{type: partial}}             # embeddings stay as they are

# uniform: the mean. weighted: fixed weights. confidence: the surer teacher counts more, example by example.
combiner: {{type: confidence, sharpness: 4}}
objectives:
  - {{type: kl, temperature: 2}}              # follow the teachers
  - {{type: cross-entropy, weight: 0.2}}      # and the labels, where there are any

train:
  epochs: 3
  batch_size: 32
  lr: 3.0e-4
  workers: 1               # more on a cluster; nothing else changes
  precision: auto          # bf16 where the hardware multiplies it, else fp32
  {early_stop}early_stop: {{metric: accuracy, patience: 2}}
"""


def init(
    ctx: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where to write job.yaml.")] = Path(),
    data: Annotated[
        str | None, typer.Option("--data", help="Your data: parquet, arrow, jsonl, csv; a folder or glob.")
    ] = None,
    text: Annotated[str | None, typer.Option("--text", help="Its text column.")] = None,
    label: Annotated[str | None, typer.Option("--label", help="Its label column.")] = None,
) -> None:
    """Write a commented job.yaml; with --data its columns and labels are filled in."""
    console: Console = ctx.obj
    job = folder / "job.yaml"
    example = folder / "example.csv"
    _refuse_to_overwrite([job] if data else [job, example])
    if data is None:
        if text or label:
            raise ConfigError("--text and --label name columns of --data", fix="add --data FILE")
        written = {job: job_text(job, str(example), None), example: EXAMPLE_CSV}
        more: dict[str, Any] = {}
        words = [f"wrote {job} and {example} (its format; put your rows in its place)"]
    else:
        from tutelage.cli.columns import find_columns
        from tutelage.cli.found import about, lines

        found = find_columns(data, source_name(data), text=text, label=label)
        written = {job: job_text(job, data, found)}
        more = {"data": about(found)}
        words = [f"wrote {job}", *(f"  {line}" for line in lines(found))]
    folder.mkdir(parents=True, exist_ok=True)
    for path, content in written.items():
        path.write_text(content, encoding="utf-8")
    words.append(f"next: tutelage config check {job}")
    console.result({"written": [str(path) for path in written], "job": str(job), **more}, "\n".join(words))


def job_text(job: Path, data: str, found: Found | None) -> str:
    """The text of a job file that reads `data`."""
    from tutelage.config.dump import inline

    columns = {"text": found.text, "label": found.label} if found else {"text": "text", "label": "label"}
    labels = found.labels if found else ["negative", "positive"]
    keys = dict(found.keys) if found else {}
    if found and found.spellings:
        keys["labels"] = found.spellings
    return TEMPLATE.format(
        job=job,
        name=inline(slug(job.absolute().parent.name, "my-job")),
        source=inline(source_name(data)),
        on_bad_row="skip" if found and found.bad else "fail",
        more="".join(f"\n      {key}: {inline(value)}" for key, value in keys.items()),
        early_stop="" if found is None or found.validated else "# No validation row has a label.\n  # ",
        splits=inline(found.splits if found else {"validation": 0.1, "test": 0.1}),
        path=inline(data),
        columns=inline(columns),
        labels=inline(list(labels)),
    )


def source_name(data: str) -> str:
    """What a job calls the source of a path: the file's name without its endings."""
    name = data.rstrip("/").rsplit("/", 1)[-1]
    kept = re.sub(
        r"(\.(csv|tsv|jsonl|ndjson|parquet|pq|arrow|feather|ipc|txt|gz|bz2|xz))+$", "", name, flags=re.I
    )
    return slug(kept, "mine")


def slug(text: str, default: str) -> str:
    """`text` as a name that a job may use."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "-" for c in text.lower())
    return kept.strip("._-")[:63] or default


def _refuse_to_overwrite(paths: list[Path]) -> None:
    for path in paths:
        if path.exists():
            raise ConfigError(f"{path} exists already", fix="name another folder: tutelage init FOLDER")
