"""What is built from the checkout: a wheel with everything a run needs, and an sdist."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a wheel and an sdist."""
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return folder


def test_the_wheel_holds_all_packages_templates_and_the_example(built: Path) -> None:
    """Path equals import in the wheel, and nothing stands under `platform/`."""
    names = zipfile.ZipFile(next(built.glob("*.whl"))).namelist()
    wanted = {
        "tutelage/cli/main.py",
        "tutelage/examples/reviews.yaml",
        "tutelage/report/templates/report.css",
        "actors/stream.py",
        "serve_apps/endpoint.py",
        "tune_spaces/__init__.py",
    }
    assert wanted <= set(names)
    assert not [name for name in names if name.startswith(("platform/", "tests/"))]


def test_the_sdist_holds_what_the_readme_names(built: Path) -> None:
    """Somebody who has only the sdist can set up, test and run."""
    with tarfile.open(next(built.glob("*.tar.gz"))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "Makefile",
        "constraints.txt",
        "scripts/setup.sh",
        "examples/reviews.yaml",
        "cluster.yaml",
        "README.md",
    }
    assert wanted <= names
    assert any(name.startswith("tests/unit/") for name in names)


def test_the_wheel_runs_without_the_checkout(built: Path, tmp_path: Path) -> None:
    """Unpacked into a bare folder, the command finds its packages and its example."""
    site = tmp_path / "site"
    with zipfile.ZipFile(next(built.glob("*.whl"))) as wheel:
        wheel.extractall(site)
    program = (
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "from tutelage.cli.quickstart import example\n"
        "from tutelage.config.load import load_job\n"
        "path = example()\n"
        "print(path)\n"
        "print(load_job(path).job.name)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    path, name = done.stdout.split()
    assert Path(path) == site / "tutelage" / "examples" / "reviews.yaml"
    assert name == "reviews"
