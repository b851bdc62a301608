"""What the doctor looks at: the few questions to the machine, each replaceable in a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path

from tutelage.files import home


def _read(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _command(*words: str) -> str | None:
    """Output of a command; None when it is missing, fails or hangs."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _port_is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        # As servers do: a port that only waits out an old connection is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _disk(path: str) -> tuple[int, int] | None:
    """(total, free) bytes of the file system that holds `path`."""
    try:
        usage = shutil.disk_usage(path)
    except OSError:
        return None
    return usage.total, usage.free


def _memory() -> tuple[int, int]:
    """(total, available) bytes."""
    import psutil

    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _open_files() -> int:
    import resource

    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _answers(address: str) -> bool:
    """Whether something takes a connection at `host:port`, with or without a scheme before it."""
    host, _, port = address.rpartition("://")[2].partition("/")[0].rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3).close()
    except (OSError, ValueError):
        return False
    return True


def _writable(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


@dataclass(frozen=True)
class Probes:
    """Questions to the machine."""

    system: str = sys.platform
    python: tuple[int, ...] = field(default_factory=lambda: tuple(sys.version_info[:3]))
    environ: Mapping[str, str] = field(default_factory=lambda: os.environ)
    cores: int = field(default_factory=lambda: os.cpu_count() or 1)
    read: Callable[[str], str | None] = _read
    command: Callable[..., str | None] = _command
    which: Callable[[str], str | None] = shutil.which
    version: Callable[[str], str | None] = _version
    port_is_free: Callable[[int], bool] = _port_is_free
    disk: Callable[[str], tuple[int, int] | None] = _disk
    memory: Callable[[], tuple[int, int]] = _memory
    open_files: Callable[[], int] = _open_files
    answers: Callable[[str], bool] = _answers
    writable: Callable[[str], bool] = _writable
    home: Callable[[], Path] = home
    user_home: Callable[[], Path] = Path.home
