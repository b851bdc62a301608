"""Loading a job: layers, origins, overrides, round trips and the digest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit import config_sample as sample
from tutelage.config.dump import inline
from tutelage.config.job import JobConfig
from tutelage.config.load import dump_yaml, job_digest, load_job
from tutelage.errors import ConfigError

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def job_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample.write(tmp_path_factory.mktemp("job"))


def load(path: Path, *overrides: str, **environ: str) -> JobConfig:
    return load_job(path, overrides, environ).job


def test_the_later_layer_wins(job_path: Path) -> None:
    """default < file < environment < command line."""
    assert load(job_path).train.batch_size == 32
    assert load(job_path).train.epochs == 2
    assert load(job_path, TUTELAGE__TRAIN__EPOCHS="5").train.epochs == 5
    assert load(job_path, "train.epochs=7", TUTELAGE__TRAIN__EPOCHS="5").train.epochs == 7


def test_each_leaf_knows_where_it_came_from(job_path: Path) -> None:
    loaded = load_job(job_path, ["train.lr=3e-5"], {"TUTELAGE__TEACHERS__TWO__MIN_REPLICAS": "3"})
    origin = loaded.provenance
    assert origin["train.batch_size"] == "default"
    assert origin["train.epochs"] == f"{job_path}:21"
    assert origin["task.labels"] == f"{job_path}:3"
    assert origin["teachers.two.min_replicas"] == "environment TUTELAGE__TEACHERS__TWO__MIN_REPLICAS"
    assert origin["teachers.one.min_replicas"] == "default"
    assert origin["objectives.kl.temperature"] == f"{job_path}:18"
    assert origin["train.lr"] == "command line"
    assert origin["data.sources.movies.type"] == "default"


def test_every_leaf_has_an_origin(job_path: Path) -> None:
    def count(value: Any) -> int:
        if isinstance(value, dict) and value:
            return sum(map(count, value.values()))
        if isinstance(value, list) and any(isinstance(item, dict) for item in value):
            return sum(map(count, value))
        return 1

    loaded = load_job(job_path, [], {})
    assert len(loaded.provenance) == count(loaded.job.model_dump())


@pytest.mark.parametrize(
    ("override", "read", "value"),
    [
        ("train.lr=3e-5", lambda job: job.train.lr, 3e-5),
        ("train.early_stop=null", lambda job: job.train.early_stop, None),
        ("train.early_stop.patience=3", lambda job: job.train.early_stop.patience, 3),
        ("task.labels=[no, yes]", lambda job: job.task.labels, ["no", "yes"]),
        ("combiner={type: uniform}", lambda job: job.combiner.type, "uniform"),
        ("combiner.type=uniform", lambda job: job.combiner.model_dump(), {"type": "uniform"}),
        ("teachers.two.min_replicas=4", lambda job: [t.min_replicas for t in job.teachers], [1, 4]),
        ("teachers.0.min_replicas=4", lambda job: [t.min_replicas for t in job.teachers], [4, 2]),
        ("objectives.kl.temperature=3", lambda job: job.objectives[0].temperature, 3.0),
        ('data.sources."movies".limit=9', lambda job: job.data.sources["movies"].limit, 9),
        ("student.data.movies.rows=5", lambda job: job.student.data["movies"].rows, 5),
        ("ray.dashboard=off", lambda job: job.ray.dashboard, "off"),
        ("data.sources.movies.path=a=b.csv", lambda job: job.data.sources["movies"].path, "a=b.csv"),
    ],
)
def test_an_override_sets_what_it_names(job_path: Path, override: str, read: Any, value: object) -> None:
    found = read(load(job_path, override))
    assert found == value
    assert type(found) is type(value)


def test_a_key_with_a_dot_stands_in_quotes(tmp_path: Path) -> None:
    path = sample.write(tmp_path, sample.SMALL.replace("movies:", "my.movies:"))
    loaded = load_job(path, ['data.sources."my.movies".limit=9'], {})
    assert loaded.job.data.sources["my.movies"].limit == 9
    assert loaded.provenance['data.sources."my.movies".limit'] == "command line"


def test_an_environment_name_finds_keys_with_dashes_and_dots(tmp_path: Path) -> None:
    path = sample.write(tmp_path, sample.SMALL.replace("movies:", "my-movies.v2:"))
    job = load(path, TUTELAGE__DATA__SOURCES__MY_MOVIES_V2__LIMIT="9")
    assert job.data.sources["my-movies.v2"].limit == 9


def test_the_order_of_the_command_line_does_not_matter_between_keys(job_path: Path) -> None:
    """Short keys first: replacing a section never undoes a key set beside it."""
    overrides = ["train={epochs: 9}", "train.lr=0.01"]
    assert load(job_path, *overrides) == load(job_path, *reversed(overrides))
    assert load(job_path, *overrides).train.lr == 0.01


def test_of_one_key_set_twice_the_later_wins(job_path: Path) -> None:
    assert load(job_path, "seed=1", "seed=2").seed == 2


def test_a_new_variant_refuses_keys_of_another_set_beside_it(job_path: Path) -> None:
    """Only keys of lower layers are dropped with their variant."""
    with pytest.raises(ConfigError, match="type uniform has no 'sharpness'; it belongs to type confidence"):
        load(job_path, "combiner.sharpness=3", "combiner.type=uniform")


def test_overrides_do_not_reach_shared_anchors(tmp_path: Path) -> None:
    """`<<: *x` copies: setting a key of one teacher leaves the other alone."""
    text = sample.SMALL.replace(
        "    model: some/model\n    min_replicas: 2\n", "    <<: *base\n    name: two\n"
    )
    text = text.replace("  - name: one\n", "  - &base\n    name: one\n").replace(
        "  - name: two\n    <<", "  - <<"
    )
    text = text.replace(
        "    model: some/model\n", "    model: some/model\n    finetune: {data: {movies: {}}}\n"
    )
    job = load(sample.write(tmp_path, text), "teachers.two.finetune.data.movies.rows=5")
    assert [teacher.finetune.data["movies"].rows for teacher in job.teachers if teacher.finetune] == [None, 5]


_names = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,20}", fullmatch=True)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(
        [
            ("name", _names),
            ("train.lr", st.floats(min_value=1e-12, max_value=0.99)),
            ("train.max_steps", st.none() | st.integers(1, 10**9)),
            (
                "task.labels",
                st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=2, unique=True),
            ),
            ("serve.host", st.text(st.characters(exclude_categories=["Cs"]))),
            ("export.int8", st.booleans()),
            ("data.sources.movies.labels", st.dictionaries(st.text(max_size=5), st.text(max_size=5))),
            ("teachers.one.model", st.text(st.characters(exclude_categories=["Cs"]))),
        ]
    ).flatmap(lambda pair: st.tuples(st.just(pair[0]), pair[1]))
)
def test_an_override_and_the_whole_job_round_trip(job_path: Path, pair: tuple[str, Any]) -> None:
    """KEY=inline(value) gives that value, and load(dump(job)) == job with an equal digest."""
    key, value = pair
    job = load(job_path, f"{key}={inline(value)}")
    found: Any = job.model_dump()
    for word in key.split("."):
        found = found[0 if word == "one" else word]
    assert found == value
    dumped = job_path.with_name("dumped.yaml")
    dumped.write_text(dump_yaml(job), encoding="utf-8", newline="")
    again = load(dumped)
    assert again == job
    assert job_digest(again) == job_digest(job)


@pytest.mark.parametrize(
    "override",
    [
        "ray.address=auto",
        "ray.num_cpus=4",
        "serve.port=9000",
        "stream.window=2",
        "teachers.two.min_replicas=7",
        "teachers.two.num_gpus=1",
        "train.threads=3",
        "train.cpus_per_worker=2",
        "train.lr=5.0e-05",  # its default
        "train.clip=1",
    ],
)
def test_the_digest_is_the_same_wherever_the_job_runs(job_path: Path, override: str) -> None:
    assert job_digest(load(job_path, override)) == job_digest(load(job_path))


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "train.epochs=3",
        "train.workers=2",
        "objectives.kl.temperature=3",
        "teachers.two.model=x",
        "name=b",
    ],
)
def test_the_digest_changes_with_the_experiment(job_path: Path, override: str) -> None:
    assert job_digest(load(job_path, override)) != job_digest(load(job_path))


def test_equal_jobs_have_equal_digests_however_they_were_made(job_path: Path) -> None:
    """From a file, from Python, with keys in another order."""
    job = load(job_path)
    digest = job_digest(job)
    turned = dict(reversed(list(job.model_dump().items())))
    assert len(digest) == 64
    assert job_digest(JobConfig.model_validate(turned)) == digest
