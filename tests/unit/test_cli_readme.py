"""The README's words hold: its job file is valid, its verbs exist, its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tutelage.cli.main import VERBS
from tutelage.config.load import load_job

pytestmark = pytest.mark.unit

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_job_file_of_the_readme_is_valid(tmp_path: Path) -> None:
    """A reader can start from the YAML as it stands."""
    block = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert block is not None
    path = tmp_path / "tickets.yaml"
    path.write_text(block.group(1), encoding="utf-8")
    job = load_job(path).job
    assert [teacher.name for teacher in job.teachers] == ["large", "mail"]
    assert job.data.sources["chat"].columns.label is None


def test_every_verb_that_the_readme_types_exists() -> None:
    """No command line of the README is unknown to the program."""
    typed = set(re.findall(r"^tutelage ([a-z]+)", README, re.MULTILINE))
    assert len(typed) >= 4
    assert typed <= {verb.name for verb in VERBS}


def test_every_link_and_picture_of_the_readme_is_there() -> None:
    """A relative link names a file of the repository, and a heading in it."""
    for target, anchor in re.findall(r"\]\(([^)#:]+)#?([^)]*)\)", README):
        assert (ROOT / target).exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", (ROOT / target).read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, anchor


def test_every_folder_and_file_of_the_readmes_table_is_there() -> None:
    """What is where: the first column names what the repository has."""
    named = re.findall(r"^\| `([^`]+)` \|", README, re.MULTILINE)
    assert len(named) >= 7
    for name in named:
        assert (ROOT / name).exists(), name


def test_the_readme_shows_a_running_distillation() -> None:
    """The live view stands in the README as its picture."""
    assert "](docs/live-view.svg)" in README


def test_make_targets_of_the_readme_exist() -> None:
    """`make X` of the README is a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in re.findall(r"^make ([a-z]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
