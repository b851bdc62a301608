"""The doctor's checks: plain functions from probes to findings. None imports a library that it judges."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from actors.ray_setup import LONGEST_TEMP, ray_temp, ray_temp_wanted
from tutelage.cli.machine import INSTRUCTIONS, cpu_flags, cpu_quota, memory_limit, usable_cpus
from tutelage.cli.probes import Probes
from tutelage.cli.text import size
from tutelage.errors import ClusterError, StoreError
from tutelage.models.precision import resolve_precision

Level = Literal["ok", "warn", "fail"]

REQUIRED = {
    "ray": (2, 60),
    "torch": (2, 13),
    "deepspeed": (0, 19, 8),
    "transformers": (5, 23),
    "onnxruntime": (1, 32),
}
"""Smallest versions, as pyproject.toml asks for them."""

PORTS = {8000: "the endpoint", 8265: "Ray's dashboard", 6379: "a Ray head started by hand"}
GIB = 2**30
SHM = "/dev/shm"  # noqa: S108
SHARED_SHARE = 0.3
"""Share of the memory that Ray takes for its object store."""


@dataclass(frozen=True)
class Finding:
    """One answer: how it stands, in a sentence, and what to do when it is not well."""

    check: str
    level: Level
    text: str
    fix: str = ""


def python(probes: Probes) -> Iterator[Finding]:
    """Python is 3.11 or later."""
    version = ".".join(map(str, probes.python))
    if probes.python < (3, 11):
        yield Finding(
            "python", "fail", f"Python {version}; 3.11 or later is needed", "make setup with Python 3.11"
        )
    else:
        yield Finding("python", "ok", f"Python {version}")


def packages(probes: Probes) -> Iterator[Finding]:
    """The heavy libraries are there, in versions that fit."""
    for name, least in REQUIRED.items():
        version = probes.version(name)
        wanted = ".".join(map(str, least))
        if version is None:
            yield Finding(name, "fail", f"{name} is not installed", "make setup")
        elif _numbers(version) < least:
            yield Finding(name, "fail", f"{name} {version}; {wanted} or later is needed", "make setup")
        else:
            yield Finding(name, "ok", f"{name} {version}")


def instructions(probes: Probes) -> Iterator[Finding]:
    """What the CPU multiplies, and so what `precision: auto` takes."""
    flags = cpu_flags(probes)
    shown = [word for word, flag in INSTRUCTIONS.items() if flag in flags]
    words = ", ".join(shown) or "no vector instructions found"
    takes = resolve_precision("auto", cuda_bf16=None, cpu_flags=flags)
    text = f"{words}; on this CPU `precision: auto` takes {takes}"
    if "avx2" in flags or "asimd" in flags or probes.system == "darwin":
        yield Finding("cpu", "ok", text)
    else:
        yield Finding(
            "cpu", "warn", text, "without AVX2 everything runs several times slower; use another machine"
        )


def cores(probes: Probes) -> Iterator[Finding]:
    """Cores, and what a container leaves of them."""
    quota = cpu_quota(probes)
    usable = usable_cpus(probes)
    text = f"{probes.cores} cores" + (f", of which this container may use {quota:g}" if quota else "")
    if usable < 2:
        fix = "give it 2 CPUs, or lower num_cpus of teachers and cpus_per_worker"
        yield Finding("cores", "warn", f"{text}; teachers and trainer share one", fix)
    elif quota and quota < probes.cores:
        yield Finding(
            "cores", "warn", text, f"set ray.num_cpus={max(1, int(quota))}; Ray counts the machine's"
        )
    else:
        yield Finding("cores", "ok", text)


def memory(probes: Probes) -> Iterator[Finding]:
    """Memory enough for a few MiniLM-sized models and Ray."""
    total, available = probes.memory()
    limit = memory_limit(probes)
    text = f"{size(available)} of {size(total)} memory free"
    if limit:
        text += f", this container may use {size(limit)}"
    room = min(available, limit or available)
    if room < 3 * GIB:
        fix = "close other programs; or fewer teacher replicas and a smaller batch"
        yield Finding("memory", "fail" if room < GIB else "warn", f"{text}; 3 GB or more is wanted", fix)
    else:
        yield Finding("memory", "ok", text)


def shared_memory(probes: Probes) -> Iterator[Finding]:
    """The shared memory holds Ray's object store."""
    if probes.system != "linux":
        return
    found = probes.disk(SHM)
    wanted = int((memory_limit(probes) or probes.memory()[0]) * SHARED_SHARE)
    if found is None:
        yield Finding(SHM, "warn", f"there is no {SHM}; Ray falls back to slow files", "mount a tmpfs there")
        return
    total, free = found
    text = f"{size(free)} free of {size(total)}, Ray wants {size(wanted)}"
    if free >= wanted:
        yield Finding(SHM, "ok", text)
        return
    fits_mb = max(80, free * 8 // 10 // 2**20)
    fix = f"docker run --shm-size={-(-wanted // GIB)}g, or set ray.object_store_mb={fits_mb}"
    yield Finding(SHM, "warn", f"{text}; it falls back to slow files", fix)


def disk(probes: Probes) -> Iterator[Finding]:
    """Room for data, checkpoints and versions."""
    try:
        home = probes.home()
    except StoreError as problem:
        yield Finding("disk", "fail", problem.problem, problem.fix)
        return
    found = probes.disk(str(home))
    if found is None:
        yield Finding("disk", "fail", f"{home} cannot be looked at", "set TUTELAGE_HOME to a folder of yours")
        return
    text = f"{size(found[1])} free for $TUTELAGE_HOME ({home})"
    if found[1] < 5 * GIB:
        fix = "free some space, or set TUTELAGE_HOME to another disk"
        yield Finding("disk", "fail" if found[1] < GIB else "warn", f"{text}; 5 GB or more is wanted", fix)
    else:
        yield Finding("disk", "ok", text)


def ports(probes: Probes) -> Iterator[Finding]:
    """The ports that are used by default are free on loopback."""
    taken = [port for port in PORTS if not probes.port_is_free(port)]
    free = [str(port) for port in PORTS if port not in taken]
    if free:
        yield Finding("ports", "ok", f"{', '.join(free)} free on loopback")
    for port in taken:
        fix = (
            "set serve.port=0 for a free one"
            if port == 8000
            else "nothing, when it is a Ray that you want to join"
        )
        yield Finding("ports", "warn", f"port {port} ({PORTS[port]}) is taken", fix)


def temp_folder(probes: Probes) -> Iterator[Finding]:
    """Ray's sockets fit below the folder for temporary files."""
    own = ray_temp_wanted(probes.environ)
    try:
        used = ray_temp(probes.environ, probes.writable)
    except ClusterError as problem:
        yield Finding("temp folder", "fail", problem.problem, problem.fix)
        return
    if used == own:
        yield Finding("temp folder", "ok", f"Ray keeps its sessions in {own}/ray")
    else:
        text = f"{own} is too long for Ray's sockets; sessions are kept in {used}/ray"
        fix = f"export RAY_TMPDIR=FOLDER, of at most {LONGEST_TEMP} bytes, to have them elsewhere"
        yield Finding("temp folder", "warn", text, fix)


def ray_state(probes: Probes) -> Iterator[Finding]:
    """Nothing is left of an older Ray, and a cluster that is named can be joined."""
    current = f"{ray_temp_wanted(probes.environ)}/ray/ray_current_cluster"
    address = (probes.read(current) or "").strip()
    if address and not probes.answers(address):
        yield Finding(
            "ray state", "warn", f"{current} names {address}, but no Ray answers there", f"rm {current}"
        )
    elif address:
        yield Finding("ray state", "ok", f"a Ray runs here ({address}); --address auto joins it")
    else:
        yield Finding("ray state", "ok", "nothing is left of an older Ray")
    joins = probes.environ.get("RAY_ADDRESS")
    if not joins:
        return
    if probes.environ.get("RAY_AUTH_MODE") not in ("token", "disabled"):
        fix = "export RAY_AUTH_MODE=token (or disabled), as the cluster was started"
        yield Finding("ray address", "warn", f"RAY_ADDRESS is {joins}, RAY_AUTH_MODE is not set", fix)
    elif probes.environ["RAY_AUTH_MODE"] == "token" and not has_token(probes):
        fix = "put the cluster's token in ~/.ray/auth_token, or set RAY_AUTH_TOKEN_PATH"
        yield Finding("ray address", "fail", f"RAY_ADDRESS is {joins}, and there is no token to show it", fix)
    elif ":" in joins and not probes.answers(joins):
        fix = "check the address and that the cluster is up (`ray status`), or unset RAY_ADDRESS"
        yield Finding("ray address", "fail", f"RAY_ADDRESS is {joins}, and nothing answers there", fix)
    else:
        yield Finding("ray address", "ok", f"commands join {joins} (RAY_ADDRESS)")


def has_token(probes: Probes) -> bool:
    """Whether a Ray token can be found where Ray looks for it."""
    if probes.environ.get("RAY_AUTH_TOKEN"):
        return True
    path = probes.environ.get("RAY_AUTH_TOKEN_PATH") or str(probes.user_home() / ".ray" / "auth_token")
    return bool((probes.read(path) or "").strip())


def gpus(probes: Probes) -> Iterator[Finding]:
    """GPUs and their driver."""
    if probes.which("nvidia-smi") is None:
        yield Finding("gpu", "ok", "no NVIDIA GPU; everything runs on the CPU")
        return
    query = ("--query-gpu=name,memory.total,driver_version,compute_cap", "--format=csv,noheader,nounits")
    lines = (probes.command("nvidia-smi", *query) or "").splitlines()
    if not lines:
        yield Finding("gpu", "warn", "nvidia-smi is here and finds no GPU", "check the driver: nvidia-smi")
    for line in lines:
        name, memory_mib, driver, capability = [*(part.strip() for part in line.split(",")), "", "", ""][:4]
        takes = "bf16" if _numbers(capability) >= (8,) else "fp32"
        room = f"{int(memory_mib) / 1024:.0f} GiB, " if memory_mib.isdecimal() else ""
        text = f"{name} ({room}driver {driver}); on it `precision: auto` takes {takes}"
        if "+cpu" in (probes.version("torch") or ""):
            yield Finding("gpu", "warn", f"{text}; but torch is a CPU build", "install torch with CUDA")
        else:
            yield Finding("gpu", "ok", text)


def compiler(probes: Probes) -> Iterator[Finding]:
    """DeepSpeed builds its offload kernels with a C++ compiler."""
    found = next((path for path in map(probes.which, ("c++", "g++", "clang++")) if path), None)
    if found:
        yield Finding("compiler", "ok", f"C++ compiler {found}")
    else:
        fix = "install g++ (build-essential) when you want offload to the CPU"
        yield Finding("compiler", "warn", "no C++ compiler; DeepSpeed cannot build its kernels", fix)


def open_files(probes: Probes) -> Iterator[Finding]:
    """Ray opens many files and sockets."""
    limit = probes.open_files()
    if 0 <= limit < 4096:
        yield Finding("open files", "warn", f"at most {limit:,} open files", "ulimit -n 65536")
    else:
        yield Finding(
            "open files", "ok", "no limit" if limit < 0 else f"at most {min(limit, 10**9):,} open files"
        )


CHECKS: tuple[Callable[[Probes], Iterator[Finding]], ...] = (
    *(python, packages, instructions, cores, memory, shared_memory, disk),
    *(ports, temp_folder, ray_state, gpus, compiler, open_files),
)


def examine(probes: Probes) -> list[Finding]:
    """All findings; a check that cannot look is a finding too."""
    findings: list[Finding] = []
    for check in CHECKS:
        try:
            findings += check(probes)
        except Exception as error:
            text = f"could not be looked at: {type(error).__name__}: {error}"
            findings.append(Finding(check.__name__, "warn", text, "report this with the output of --debug"))
    return findings


def _numbers(version: str) -> tuple[int, ...]:
    """`2.13.0+cpu` as (2, 13, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.partition("+")[0])[:3])
