"""The folder of a model that a job names: fetched, and whole."""

from __future__ import annotations

from pathlib import Path

from tutelage.config.task import TaskName
from tutelage.data.catalog import resolve_model
from tutelage.data.folders import whole_folder
from tutelage.models.adapter_folder import Adapter, is_adapter
from tutelage.progress import Stage


def model_folder(ref: str, task: TaskName, home: Path, stage: Stage | None = None) -> str:
    """The local folder of a model; an adapter is merged with its base once, below home/models.

    Raises:
        ModelError: no such model, or an adapter that does not fit its base or whose base is not here.
        StoreError: a URL or hub that cannot be read.
    """
    folder = resolve_model(ref, home, stage)
    if not is_adapter(folder):
        return folder
    adapter = Adapter(folder, task)
    base = adapter.base_folder(lambda name: resolve_model(name, home, stage))
    target = (home / "models" / f"merged-{adapter.mark(base)}").absolute()
    if not target.is_dir():
        with whole_folder(target) as place:
            adapter.merge(base, place)
    if stage:
        stage.note(f"{ref}: an adapter, merged with {base}")
    return str(target)
