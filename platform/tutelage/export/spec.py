"""`tutelage.json`: what a process needs to know to answer with an exported student."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tutelage.errors import ModelError
from tutelage.export.processor import Processor

FILE = "tutelage.json"
Variant = Literal["fp32", "int8"]


class ModelSpec(BaseModel):
    """One exported student. `files` are names relative to the folder."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[1] = 1
    task: Literal["sequence-classification"] = "sequence-classification"
    labels: list[str] = Field(min_length=2)
    """Class names in the order of the logits (C)."""
    max_tokens: int = Field(gt=0)
    """Texts were cut at this many tokens in training."""
    opset: int
    files: dict[Variant, str]
    recipe: dict[str, Any] | None = None
    """How the int8 file was quantised; None when there is none."""
    processor: Processor | None = None
    """Where the files were checked; None in versions that do not say."""
    packages: dict[str, str] = {}
    """Versions of torch, transformers, onnx and onnxruntime that wrote the files."""

    @classmethod
    def read(cls, folder: Path) -> ModelSpec:
        """The spec of an exported folder. Raises ModelError when it is missing or of another format."""
        path = folder / FILE
        try:
            return cls.model_validate_json(path.read_bytes())
        except FileNotFoundError as problem:
            raise ModelError(
                f"{folder} holds no {FILE}: it is not an exported student", fix="run `tutelage export` first"
            ) from problem
        except ValidationError as problem:
            first = problem.errors()[0]
            key = ".".join(map(str, first["loc"])) or "the file"
            raise ModelError(f"{path}: {key}: {first['msg']}", fix="run `tutelage export` again") from problem

    def write(self, folder: Path) -> None:
        """Write it into `folder`, which nobody else reads yet."""
        (folder / FILE).write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    def file(self, folder: Path, variant: Variant) -> Path:
        """The path of one ONNX file. Raises ModelError for a variant that was not exported."""
        if variant not in self.files:
            raise ModelError(
                f"{folder} has no {variant} file, only {', '.join(sorted(self.files))}",
                fix=f"set serve.variant to {sorted(self.files)[0]}, or export with export.int8: true",
            )
        return folder / self.files[variant]
