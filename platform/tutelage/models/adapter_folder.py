"""A folder that peft wrote: a few matrices that change a base model, with which it is merged."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tutelage.config.task import TaskName
from tutelage.errors import ModelError, TutelageError
from tutelage.files import digest_file, digest_text
from tutelage.models.fingerprint import fingerprint
from tutelage.models.head import read_config
from tutelage.models.load import load_model, quiet_peft
from tutelage.tokenizer import FILE, load_tokenizer

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_TASKS: dict[str, TaskName] = {
    "SEQ_CLS": "sequence-classification",
    "TOKEN_CLS": "token-classification",
    "QUESTION_ANS": "question-answering",
    "CAUSAL_LM": "causal-lm",
}
_MERGES = ("LORA", "ADALORA", "LOHA", "LOKR", "IA3", "OFT", "BOFT", "VERA", "HRA", "FOURIERFT")
"""Kinds of adapters that become part of the weights; prompts and prefixes do not."""
_HEAD = re.compile(r"(^|\.)(classifier|score|qa_outputs|classification_head)\.(.*\.)?(weight|bias)$")
_ADVICE = (
    "merge it where the base is: PeftModel.from_pretrained(BASE, FOLDER).merge_and_unload().save_pretrained"
)


def is_adapter(folder: str | Path) -> bool:
    """Whether the folder holds an adapter. Raises ModelError where it holds a whole model beside it."""
    place = Path(folder)
    if not (place / CONFIG).is_file():
        return False
    whole = [path.name for path in place.glob("*.safetensors") if path.name != WEIGHTS]
    if whole:
        raise ModelError(
            f"{folder} holds an adapter ({CONFIG}) and a whole model ({whole[0]}); transformers would read "
            "another base instead",
            fix=f"remove {CONFIG} where the weights are merged, else the whole model",
        )
    return True


class Adapter:
    """What an adapter's folder says of itself. Raises ModelError where it cannot be merged."""

    def __init__(self, folder: str | Path, task: TaskName) -> None:
        self.folder = Path(folder)
        said = _read(self.folder / CONFIG)
        kind = str(said.get("peft_type"))
        if kind not in _MERGES:
            raise ModelError(
                f"{folder}: an adapter of kind {kind} cannot become part of the weights",
                fix=f"use one of {', '.join(_MERGES)}, or a whole model",
            )
        own = _TASKS.get(str(said.get("task_type")))
        if own is not None and own != task:
            raise ModelError(
                f"{folder}: an adapter for {own}, and the job is {task}", fix="name another model"
            )
        if not (self.folder / WEIGHTS).is_file():
            raise ModelError(
                f"{folder}: no {WEIGHTS}; pickled weights can run code and are not read",
                fix="save the adapter with safetensors (save_pretrained does)",
            )
        self.base = str(said.get("base_model_name_or_path") or "")
        self.task = task

    def base_folder(self, resolve: Callable[[str], str]) -> str:
        """Where the base is. Raises ModelError with the name that the adapter gives it."""
        for ref in dict.fromkeys([str(self.folder / self.base), self.base]):
            if self.base and Path(ref).is_dir():
                return ref
        try:
            if not self.base:
                raise ModelError("its config names none", fix="")
            return resolve(self.base)
        except TutelageError as problem:
            raise ModelError(
                f"{self.folder} is an adapter of '{self.base}', which is not to be had: {problem.problem}",
                fix=f"write a folder that is here as base_model_name_or_path into {CONFIG}, or {_ADVICE}",
            ) from problem

    def mark(self, base: str) -> str:
        """A digest of all that decides the merged model."""
        parts = [self.folder / name for name in (CONFIG, WEIGHTS, "config.json")]
        files = [digest_file(path) for path in parts if path.is_file()]
        return digest_text(*files, fingerprint(base, self._tokenizer(base)), self.task)[:32]

    def merge(self, base: str, target: Path) -> None:
        """Write the whole model into the folder `target`, with the adapter's tokenizer or the base's."""
        import peft
        from safetensors import safe_open

        with safe_open(str(self.folder / WEIGHTS), "pt") as file:
            shapes = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118
        heads = {name: shape for name, shape in shapes.items() if _HEAD.search(name) and "lora_" not in name}
        labels = self._labels(base, heads)
        model = load_model(base, self.task, labels, new_head=bool(heads))
        kind: Any = peft.PeftModel
        try:
            with quiet_peft():
                adapted = kind.from_pretrained(model, str(self.folder))
        except Exception as error:  # peft has errors of all kinds
            raise ModelError(f"{self.folder} does not fit its base {base} ({error})", fix=_ADVICE) from error
        # Left to itself peft asks the hub whether the base's vocabulary was another one.
        wanted = set(peft.get_peft_model_state_dict(adapted, save_embedding_layers=False))
        if wanted != set(shapes):
            wrong = sorted(wanted ^ set(shapes))
            raise ModelError(
                f"{self.folder} does not fit its base {base}: {len(wrong)} weights differ ({wrong[0]}, ...)",
                fix="name the base that it was trained on",
            )
        adapted.merge_and_unload().save_pretrained(target)
        load_tokenizer(self._tokenizer(base)).save_pretrained(target)

    def _tokenizer(self, base: str) -> str:
        return str(self.folder) if (self.folder / FILE).is_file() else base

    def _labels(self, base: str, heads: dict[str, list[int]]) -> list[str] | None:
        """The classes: of the adapter's own config.json, else of the base, else numbered."""
        if self.task not in ("sequence-classification", "token-classification") or not heads:
            return None
        count = [shape[0] for name, shape in sorted(heads.items()) if len(shape) == 2][-1]
        for place in (self.folder, Path(base)):
            if (place / "config.json").is_file():
                names = list(read_config(place).id2label.values())
                if len(names) == count:
                    return names
        return [f"LABEL_{n}" for n in range(count)]


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error})", fix="fetch or save the adapter again") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object", fix="fetch or save the adapter again")
    return found
