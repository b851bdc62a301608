"""What a later verb would refuse of a model is refused before anything is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from actors.fitting import check_models, model_concerns
from tutelage.config import JobConfig
from tutelage.config.runtime import ExportConfig
from tutelage.errors import DataError, ModelError, TutelageError
from tutelage.export.onnx import export_onnx
from tutelage.models.describe import describe
from tutelage.testing import LABELS, small_tokenizer, tiny_family

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tiny models, each made when it is first asked for."""
    return tmp_path_factory.mktemp("fitting")


def model(place: Path, family: str, **more: Any) -> str:
    folder = place / "-".join([family, *map(str, more.values())])
    return str(folder) if folder.is_dir() else tiny_family(family, folder, **more)


def job_of(
    place: Path, student: str, teacher: dict[str, Any] | None = None, max_tokens: int = 64, **more: Any
) -> JobConfig:
    whole = {
        "name": "small",
        "task": {"labels": list(LABELS)},
        "data": {"sources": {"one": {"path": "one.jsonl"}}, "max_tokens": max_tokens},
        "teachers": [{"name": "critic", **(teacher or {"model": model(place, "bert")})}],
        "student": {"model": student, **more},
        "objectives": [{"type": "kl"}],
    }
    return JobConfig.model_validate(whole)


def checked(
    place: Path, student: str, teacher: dict[str, Any] | None = None, max_tokens: int = 64, **more: Any
) -> None:
    job = job_of(place, student, teacher, max_tokens, **more)
    bases = {one.name: describe(one.model) for one in job.teachers}
    check_models(job, describe(student), bases, place)


def refused(
    place: Path, student: str, teacher: dict[str, Any] | None = None, max_tokens: int = 64, **more: Any
) -> TutelageError:
    with pytest.raises((ModelError, DataError)) as caught:
        checked(place, student, teacher, max_tokens, **more)
    return caught.value


def test_a_job_whose_models_fit_is_accepted(place: Path) -> None:
    checked(place, model(place, "roberta"), {"model": model(place, "xlnet")})


@pytest.mark.parametrize("family", ["bert", "roberta", "xlm-roberta", "mpnet", "gpt2", "modernbert"])
def test_the_right_limit_is_named_and_it_is_accepted(place: Path, family: str) -> None:
    """A RoBERTa of 66 rows reads 64 tokens."""
    folder = model(place, family)
    error = refused(place, folder, max_tokens=65)
    assert "has 64 positions" in error.problem
    assert error.fix == "data.max_tokens=64 or less"
    checked(place, folder, max_tokens=64)


def test_a_student_of_another_architecture_has_places_of_its_own(place: Path) -> None:
    """DeBERTa has no limit; a BERT with its vocabulary has one."""
    shape = {"family": "bert", "depth": 1, "width": 16, "heads": 2}
    base = model(place, "deberta-v2")
    checked(place, base, {"model": base}, 512)
    error = refused(place, base, {"model": base}, 65, architecture=shape)
    assert error.fix == "data.max_tokens=64 or less"
    checked(place, base, {"model": base}, 64, architecture=shape)


def test_a_teacher_that_is_shorter_than_the_job_is_named_with_the_key_that_helps(place: Path) -> None:
    short, student = model(place, "roberta", positions=30), model(place, "deberta-v2")
    error = refused(place, student, {"model": short}, max_tokens=40)
    assert error.problem.startswith("teachers.critic.model: data.max_tokens is 40")
    assert error.fix.startswith("teachers.critic.max_tokens=30")
    checked(place, student, {"model": short, "max_tokens": 30}, max_tokens=40)


def test_a_teacher_that_is_trained_here_reads_all_that_the_job_does(place: Path) -> None:
    """Its own max_tokens cut what it is asked, not what it is trained on."""
    short, student = model(place, "roberta", positions=30), model(place, "deberta-v2")
    made = {"model": short, "max_tokens": 30, "finetune": {"data": {"one": {}}}}
    assert refused(place, student, made, max_tokens=40).fix == "data.max_tokens=30 or less"
    checked(place, student, made, max_tokens=30)


def test_a_tokenizer_of_another_model_is_measured_with_the_model_that_reads_it(
    place: Path, tmp_path: Path
) -> None:
    small_tokenizer("bytes").save_pretrained(tmp_path)
    bert = model(place, "bert")
    error = refused(place, model(place, "roberta"), {"model": bert, "tokenizer": str(tmp_path)})
    assert "teachers.critic: the tokenizer has" in error.problem
    error = refused(place, bert, tokenizer=str(tmp_path))
    assert "student: the tokenizer has" in error.problem


@pytest.mark.parametrize("family", ["gpt2-none", "llama-none"])
def test_a_classifier_without_a_padding_token_is_refused_and_the_advice_helps(
    place: Path, family: str, tmp_path: Path
) -> None:
    import json

    folder = Path(tiny_family(family, tmp_path / "m"))
    for student, teacher in ((str(folder), None), (model(place, "bert"), {"model": str(folder)})):
        assert "padding token" in refused(place, student, teacher).problem
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config["pad_token"] = config["eos_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    checked(place, str(folder))
    checked(place, model(place, "bert"), {"model": str(folder)})


@pytest.mark.parametrize(
    ("family", "why"), [("xlnet", "a type of their own"), ("convbert", "reads its padding")]
)
def test_a_model_whose_answer_depends_on_padding_teaches_and_is_not_trained(
    place: Path, family: str, why: str
) -> None:
    folder = model(place, family)
    checked(place, model(place, "bert"), {"model": folder})
    assert why in refused(place, folder).problem
    made = {"model": folder, "finetune": {"data": {"one": {}}}}
    assert (
        "as a ready-made teacher of sequence-classification" in refused(place, model(place, "bert"), made).fix
    )


def test_a_shape_whose_answers_would_depend_on_padding_is_refused(place: Path) -> None:
    shape = {"family": "convbert", "depth": 1, "width": 16, "heads": 2}
    assert "reads its padding" in refused(place, model(place, "bert"), architecture=shape).problem


def test_a_student_that_is_never_served_is_told_and_its_export_says_the_same(
    place: Path, tmp_path: Path
) -> None:
    folder = model(place, "longformer")
    [said] = model_concerns(job_of(place, folder), describe(folder))
    assert "no endpoint: a longformer cannot be exported" in said
    with pytest.raises(ModelError, match="a longformer cannot be exported"):
        export_onnx(Path(folder), tmp_path / "model.onnx", ExportConfig())
    assert model_concerns(job_of(place, model(place, "bert")), describe(model(place, "bert"))) == []
    shape = {"family": "longformer", "depth": 1, "width": 16, "heads": 2}
    assert model_concerns(job_of(place, folder, architecture=shape), describe(folder)) == [said]


@pytest.mark.parametrize("limit", [1, 2])
def test_a_teacher_whose_special_tokens_fill_its_limit_is_refused(place: Path, limit: int) -> None:
    teacher = {"model": model(place, "bert"), "max_tokens": limit}
    assert "special tokens alone take 2" in refused(place, model(place, "bert"), teacher).problem
