"""What can be read of each family of models: as teacher, exported, and answered by an endpoint's predictor.

    python -m benchmarks.families [FAMILY ...]

Random classifiers of two layers, each with the tokenizer kind of its family. Plain transformers answer one
text at a time (AutoTokenizer, AutoModelForSequenceClassification); a teacher answers all in one batch, the
predictor reads the exported folder with tokenizers and ONNX Runtime alone, fp32. The limit is 50 tokens, no
multiple of anything, and texts reach beyond it. Figures are the largest difference of a logit, for the
predictor of a log-probability; a sentence stands where the project refuses.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from actors.fitting import check_models
from actors.teacher import Teacher, TeacherSpec
from serve_apps.predictor import Predictor
from tutelage.cli.quiet import quiet_libraries
from tutelage.config import JobConfig
from tutelage.config.runtime import ExportConfig
from tutelage.config.task import SequenceClassification
from tutelage.data.padding import mask_rows, pad_rows
from tutelage.errors import TutelageError
from tutelage.export.student import Probe, export_student
from tutelage.models.describe import describe
from tutelage.models.load import load_classifier, load_tokenizer
from tutelage.models.padding import settle_padding
from tutelage.signals.exchange import Request
from tutelage.signals.spec import PayloadSpec
from tutelage.testing import FAMILIES, LABELS, sentences, tiny_family
from tutelage.tokenizer import read_texts

LIMIT = 50
TASK = SequenceClassification(labels=list(LABELS))


@dataclass(frozen=True)
class Line:
    """One family: a difference, or why there is none."""

    teacher: float | str
    fp32: float | str


def texts() -> list[str]:
    """Twelve texts of 3 to 90 words."""
    return [" ".join([text] * (1 + 3 * (n % 3))) for n, text in enumerate(sentences(12, seed=3))]


def check(place: Path, teacher: str, student: str) -> None:
    """Ask what a job with these models is asked before it starts. Raises TutelageError."""
    job = JobConfig.model_validate(
        {
            "name": "families",
            "task": {"labels": list(LABELS)},
            "data": {"sources": {"one": {"path": "one.jsonl"}}, "max_tokens": LIMIT},
            "teachers": [{"name": "one", "model": teacher}],
            "student": {"model": student},
            "objectives": [{"type": "kl"}],
        }
    )
    check_models(job, describe(student), {"one": describe(teacher)}, place)


def plain(folder: str) -> NDArray[np.float32]:
    """[N, C] by transformers alone, each text by itself."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedTokenizerFast

    auto: Any = AutoModelForSequenceClassification
    model = auto.from_pretrained(folder).eval()
    # AutoTokenizer takes a class of its own for Qwen2, whatever the folder says.
    words: Any = PreTrainedTokenizerFast if "Qwen" in type(model).__name__ else AutoTokenizer
    tokenizer = words.from_pretrained(folder)
    with torch.inference_mode():
        rows = [
            model(**tokenizer(text, truncation=True, max_length=LIMIT, return_tensors="pt")).logits[0]
            for text in texts()
        ]
    found: NDArray[np.float32] = torch.stack(rows).numpy()
    return found


def by_teacher(folder: str) -> NDArray[np.float32]:
    """[N, C] by a teacher, in one batch."""
    teacher = Teacher(
        TeacherSpec("one", folder, folder, (0, 1), LIMIT, threads=1, fingerprint="-", task=TASK)
    )
    asked = texts()
    ones_N = np.ones(len(asked), np.int32)
    request = Request(b"-", [text.encode() for text in asked], ones_N, PayloadSpec("dense", 2), texts=asked)
    values: NDArray[np.float32] = teacher.score(request).packet.columns["logits"].values
    return values


def by_predictor(folder: str, out: Path) -> NDArray[np.float64]:
    """log-probabilities [N, C] of the exported fp32 file, the student saved as a training saves it."""
    model, tokenizer = load_classifier(folder), load_tokenizer(folder)
    pad_id = settle_padding(model, tokenizer)
    saved = out.with_name(out.name + "-saved")
    model.save_pretrained(saved)
    tokenizer.save_pretrained(saved)
    ids = [tokens.ids for tokens in read_texts(tokenizer, texts(), LIMIT)]
    lengths = [len(row) for row in ids]
    ids_NT = pad_rows(ids, pad_id, max(lengths))
    mask_NT = mask_rows(lengths, max(lengths))
    with torch.inference_mode():
        logits_NC = model(
            input_ids=torch.from_numpy(ids_NT), attention_mask=torch.from_numpy(mask_NT)
        ).logits.numpy()
    probe = Probe([(ids_NT, mask_NT)], logits_NC, list(LABELS), LIMIT, texts())
    export_student(saved, out, ExportConfig(int8=False), probe, latency_runs=0)
    found = Predictor(out, "fp32").predict(texts())
    return np.log([[one.scores[label] for label in LABELS] for one in found])


def measure(name: str, place: Path) -> Line:
    """The line of one family."""
    folder, fits = tiny_family(name, place / name), tiny_family("bert", place / "fits")
    wanted_NC = plain(folder)
    logs_NC = torch.log_softmax(torch.from_numpy(wanted_NC).double(), 1).numpy()

    def difference(answer: Callable[[], Any], wanted: Any, teacher: str, student: str) -> float | str:
        try:
            check(place, teacher, student)
            return float(np.abs(answer() - wanted).max())
        except TutelageError as error:
            return "refused: " + error.problem.partition(": ")[2].replace(str(place) + "/", "")

    return Line(
        difference(lambda: by_teacher(folder), wanted_NC, folder, fits),
        difference(lambda: by_predictor(folder, place / f"{name}-out"), logs_NC, fits, folder),
    )


def shown(value: float | str) -> str:
    """A cell."""
    return value if isinstance(value, str) else f"{value:.0e}"


def main(names: list[str]) -> None:
    """Print the table, a line a family."""
    import onnxruntime
    import tokenizers
    import transformers

    quiet_libraries()
    print(f"transformers {transformers.__version__}, torch {torch.__version__}, ", end="")
    print(f"onnxruntime {onnxruntime.__version__}, tokenizers {tokenizers.__version__}\n")
    print("| family | tokens are | as teacher | exported, fp32 |\n|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as place:
        for name in names or FAMILIES:
            line = measure(name, Path(place))
            kind = FAMILIES[name].tokenizer
            print(f"| {name} | {kind} | {shown(line.teacher)} | {shown(line.fp32)} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
