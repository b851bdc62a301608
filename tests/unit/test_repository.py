"""Guards of the repository: layout, layers, light imports, examples, reference, file sizes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tutelage.config.load import load_job
from tutelage.config.reference import reference

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
CODE = ("platform", "actors", "tune_spaces", "serve_apps", "tests", "benchmarks")
FILES = [path for folder in CODE for path in (ROOT / folder).rglob("*.py") if "__pycache__" not in path.parts]
HEAVY = ("torch", "ray", "transformers")
HEAVY_FOR_THE_COMMAND = (
    *HEAVY,
    "onnxruntime",
    "onnx",
    "matplotlib",
    "pandas",
    "pyarrow",
    "deepspeed",
    "sqlalchemy",
)


def test_platform_holds_no_module() -> None:
    """An `__init__.py` there would shadow the standard library's `platform` and stop Python itself."""
    assert list((ROOT / "platform").glob("*.py")) == []


@pytest.mark.parametrize(
    ("module", "heavy"),
    [
        ("tutelage", HEAVY),
        ("tutelage.config", HEAVY),
        ("tutelage.config.load", HEAVY),
        ("tutelage.cli.main", HEAVY_FOR_THE_COMMAND),
        ("tutelage.cli.doctor", HEAVY_FOR_THE_COMMAND),
        ("tutelage.cli.config", HEAVY_FOR_THE_COMMAND),
    ],
)
def test_an_import_stays_light(module: str, heavy: tuple[str, ...]) -> None:
    program = f"import sys, {module}; print(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    loaded = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert module.split(".", maxsplit=1)[0] in loaded
    assert sorted(set(heavy) & set(loaded)) == []


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda path: path.name)
def test_every_example_is_a_valid_job(path: Path) -> None:
    assert load_job(path, [], {}).job.name


def test_the_config_reference_is_what_the_models_say() -> None:
    assert (ROOT / "docs" / "config.md").read_text(encoding="utf-8") == reference(), (
        "run: python -m tutelage.config.reference"
    )


def test_no_file_is_longer_than_500_lines() -> None:
    assert len(FILES) > 20
    assert [str(path) for path in FILES if len(path.read_text(encoding="utf-8").splitlines()) > 500] == []


def test_every_folder_of_tests_is_run() -> None:
    """`make test` names the folders, since its two halves run at once."""
    script = (ROOT / "scripts" / "test.sh").read_text(encoding="utf-8")
    folders = {path.parent.relative_to(ROOT).as_posix() for path in (ROOT / "tests").rglob("test_*.py")}
    assert folders == set(re.findall(r"tests/\w+", script))


def test_the_layers_hold() -> None:
    """import-linter, as `lint-imports` runs it."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())",
        ],
        cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT / 'platform'}:{ROOT}", "PATH": "", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout
