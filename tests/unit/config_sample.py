"""A small valid job as text, for the tests of the config."""

from __future__ import annotations

from pathlib import Path

SMALL = """\
name: small
task:
  labels: [negative, positive]
data:
  sources:
    movies: {path: movies.csv}
    shop: {type: catalog, dataset: reviews/amazon}
teachers:
  - name: one
    model: some/model
  - name: two
    model: some/model
    min_replicas: 2
student:
  model: some/small
combiner: {type: confidence, sharpness: 4}
objectives:
  - {type: kl, temperature: 2}
  - {type: cross-entropy}
train:
  epochs: 2
"""


def write(folder: Path, text: str = SMALL, name: str = "job.yaml") -> Path:
    """The text as a file in `folder`."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
