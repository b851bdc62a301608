"""What a wrong job says: every problem at once, each with key, value, what is allowed, and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit import config_sample as sample
from tutelage.config.explain import JobError
from tutelage.config.load import load_job
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit


def problems(path: Path, *overrides: str, **environ: str) -> list[str]:
    with pytest.raises(JobError) as caught:
        load_job(path, overrides, environ)
    assert caught.value.fix
    return [str(problem) for problem in caught.value.problems]


def refused(path: Path, *overrides: str, **environ: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_job(path, overrides, environ)
    return caught.value


@pytest.fixture
def job_path(tmp_path: Path) -> Path:
    return sample.write(tmp_path)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("train.lr=fast", "train.lr: fast is not allowed; wants a number above 0 and below 1"),
        ("train.lr=.nan", "train.lr: .nan is not allowed; wants a number above 0 and below 1"),
        ("train.clip=.inf", "train.clip: .inf is not allowed; wants a number at least 0"),
        ("train.epochs=2.5", "train.epochs: 2.5 is not allowed; wants a whole number above 0"),
        (
            "teachers.two.min_replicas=0",
            "teachers.two.min_replicas: 0 is not allowed; wants a whole number above 0",
        ),
        ("train.precision=b16", "wants auto, fp32, bf16 or fp16; did you mean bf16?"),
        ("train=3", "train: 3 is not allowed; wants a mapping"),
        ("teachers={}", "teachers: {} is not allowed; wants a list of mappings"),
        ("name=12", "name: 12 is not allowed; wants a name"),
        ("student.model=12", "student.model: 12 is not allowed; wants text; write it in quotes"),
        ("name=A b", "name: A b is not allowed; wants a name"),
        (
            "combiner.type=unifrom",
            "combiner.type: unifrom is not allowed; wants uniform, weighted, confidence or validated",
        ),
        (
            "combiner={sharpness: 3}",
            "combiner.type: missing; wants uniform, weighted, confidence or validated",
        ),
        ("objectives.kl.type=k", "objectives.0.type: k is not allowed; wants cross-entropy, kl or jsd"),
        ("objectives=[]", "objectives: [] is not allowed; wants a list of mappings"),
        ("data.sources.shop.dataset=null", "data.sources.shop.dataset: null is not allowed; wants text"),
        ("data.sources.Bad={path: x}", "data.sources: 'Bad' cannot be a name; wants a name of a-z"),
        (
            "data.sources.movies.splits.test=-1",
            "wants a whole number at least 0, or a number at least 0 and below 1",
        ),
        ("data.sources.movies.splits.test=1.5", "data.sources.movies.splits.test: 1.5 is not allowed"),
        ("student.data.movies.labels=-1", "wants a whole number at least 0, or null"),
        ("ray.object_store_mb=1", "wants a whole number at least 80, or null"),
        ("train.workers=3", "train: batch_size 32 does not divide by workers 3; use 33"),
        ("student.layers=[3, 1]", "student: layers must rise from 0"),
        ("task.labels=[a, a]", "task.labels: labels stand twice: a"),
        ("combiner={type: weighted, weights: {one: 1}}", "combiner.weights: no weight for two"),
        ("student.data.books={}", "student.data: unknown key 'books'; known here: movies, shop"),
        (
            "objectives=[{type: kl, weight: 0}, {type: cross-entropy}]",
            "no 'kl' or 'jsd' with a weight above 0",
        ),
    ],
)
def test_a_wrong_value_names_key_value_allowed_and_origin(job_path: Path, override: str, says: str) -> None:
    found = problems(job_path, override)
    assert len(found) == 1
    assert says in found[0]
    assert found[0].endswith("(command line)")


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("trian.lr=3", "unknown key 'trian'; did you mean 'train'?"),
        ("train.epochz=3", "train: unknown key 'epochz'; did you mean 'epochs'?"),
        ("teachers.two.replica=3", "teachers.two: unknown key 'replica'; did you mean 'min_replicas'?"),
        (
            "data.sources.movies.colums={}",
            "data.sources.movies: unknown key 'colums'; did you mean 'columns'?",
        ),
        (
            "student.method={type: full, rank: 3}",
            "student.method: type full has no 'rank'; it belongs to type lora",
        ),
        ("zzz=1", "unknown key 'zzz'; known here: name, seed, task"),
    ],
)
def test_an_unknown_key_gets_a_suggestion(job_path: Path, override: str, says: str) -> None:
    found = problems(job_path, override)
    assert len(found) == 1
    assert says in found[0]


def test_all_problems_are_said_at_once_with_their_lines(tmp_path: Path) -> None:
    text = (
        sample.SMALL.replace("replicas: 2", "replicas: none")
        .replace("epochs: 2", "epochs: 2\n  lrr: 1\n  batchsize: 2")
        .replace("  model: some/small", "  modell: some/small")
        .replace("temperature: 2", "temperature: 200")
    )
    path = sample.write(tmp_path, text)
    assert problems(path, "seed=-1", TUTELAGE__SERVE__PORT="99999") == [
        f"student: unknown key 'modell'; did you mean 'model'? ({path}:15)",
        f"train: unknown key 'lrr'; did you mean 'lr'? ({path}:22)",
        f"train: unknown key 'batchsize'; did you mean 'batch_size'? ({path}:23)",
        "seed: -1 is not allowed; wants a whole number at least 0 and below 2147483648 (command line)",
        f"teachers.two.min_replicas: none is not allowed; wants a whole number above 0 ({path}:13)",
        "objectives.kl.temperature: 200 is not allowed; wants a number above 0 and at most 100, "
        f"or a mapping with type linear, cosine, exponential or step ({path}:18)",
        "serve.port: 99999 is not allowed; wants a whole number at least 0 and at most 65535 "
        "(environment TUTELAGE__SERVE__PORT)",
    ]


def test_a_missing_key_points_at_its_section(tmp_path: Path) -> None:
    path = sample.write(tmp_path, sample.SMALL.replace("  model: some/small", "  layers: [0]"))
    assert problems(path) == [f"student.model: missing; wants text ({path}:14)"]


def test_a_missing_section_says_what_it_is(tmp_path: Path) -> None:
    path = sample.write(tmp_path, "name: x\n")
    found = problems(path)
    assert any(
        problem.startswith("task: missing; wants a mapping with type sequence-class") for problem in found
    )
    assert len(found) == 4


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("nothing", "is not KEY=VALUE"),
        ("=3", "is not KEY=VALUE"),
        ("train..lr=3", "the key has an empty part"),
        ("train.lr=", "has no value"),
        ("train.lr=[1", "override 'train.lr':1"),
        ("name.x=3", "name is a value, not a section"),
        ("teachers.three.min_replicas=3", "unknown key 'three'; known here: one, two"),
        ("teachers.5.min_replicas=3", "unknown key '5'; known here: one, two"),
    ],
)
def test_an_override_that_cannot_be_meant(job_path: Path, override: str, says: str) -> None:
    error = refused(job_path, override)
    assert says in error.problem
    assert error.fix


def test_an_override_into_an_absent_list_says_how_to_set_it(tmp_path: Path) -> None:
    text = sample.SMALL.split("teachers:")[0] + "student: {model: x}\nobjectives: [{type: cross-entropy}]\n"
    error = refused(sample.write(tmp_path, text), "teachers.one.min_replicas=2")
    assert "teachers has no entries yet" in error.problem


@pytest.mark.parametrize("name", ["TUTELAGE__", "TUTELAGE__TRAIN__", "TUTELAGE__TRAIN____LR"])
def test_an_environment_name_without_a_key_is_refused(job_path: Path, name: str) -> None:
    assert refused(job_path, **{name: "1"}).fix == f"unset {name}"


def test_an_unknown_environment_key_names_its_variable(job_path: Path) -> None:
    assert problems(job_path, TUTELAGE__TRIAN__LR="1") == [
        "unknown key 'trian'; did you mean 'train'? (environment TUTELAGE__TRIAN__LR)"
    ]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "is empty"),
        (b"# nothing\n", "is empty"),
        (b"- a\n- b\n", "holds a list"),
        (b"just words\n", "holds a single value"),
        (b"name: \xff\xfe\n", "byte 6 is not UTF-8"),
        (b"name: a\nname: b\n", ":2:1: key 'name' stands twice"),
        (b"train:\n\tlr: 1\n", ":2:1: a tab"),
    ],
)
def test_a_file_that_is_no_job(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(content)
    error = refused(path)
    assert says in error.problem
    assert str(path) in error.problem
    assert error.fix


def test_a_byte_order_mark_is_no_error(tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + sample.SMALL.encode())
    assert load_job(path, [], {}).job.name == "small"


def test_a_missing_file_suggests_what_is_there(tmp_path: Path, job_path: Path) -> None:
    assert str(job_path) in refused(tmp_path / "jobb.yml").fix
    assert "tutelage init" in refused(tmp_path / "no" / "job.yaml").fix
    assert "is a folder" in refused(tmp_path).problem
