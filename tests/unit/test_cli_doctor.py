"""The doctor's checks, asked of machines that exist only here."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tutelage.cli import checks, doctor
from tutelage.cli.checks import CHECKS, GIB, REQUIRED, Finding, examine
from tutelage.cli.console import Console
from tutelage.cli.main import main
from tutelage.cli.probes import Probes

pytestmark = pytest.mark.unit

CURRENT_CLUSTER = "/tmp/ray/ray_current_cluster"  # noqa: S108
LONG = f"/scratch/{'x' * 60}"

CPUINFO = "processor\t: 0\nflags\t\t: fpu sse4_2 avx avx2 {}\n"
FILES = {"/proc/cpuinfo": CPUINFO.format("")}
VERSIONS = {name: ".".join(map(str, least)) for name, least in REQUIRED.items()}

WELL = Probes(
    system="linux",
    python=(3, 11, 7),
    environ={},
    cores=8,
    read=FILES.get,
    command=lambda *words: None,
    which=lambda name: "/usr/bin/c++" if name == "c++" else None,
    version=VERSIONS.get,
    port_is_free=lambda port: True,
    disk=lambda path: (100 * GIB, 50 * GIB),
    memory=lambda: (32 * GIB, 20 * GIB),
    open_files=lambda: 65536,
    answers=lambda address: False,
    writable=lambda folder: True,
    home=lambda: Path("/home/me/.tutelage"),
    user_home=lambda: Path("/home/me"),
)


def machine(**changes: Any) -> Probes:
    files = changes.pop("files", {})
    return replace(WELL, read={**FILES, **files}.get, **changes)


def only(check: Callable[..., Any], probes: Probes) -> Finding:
    (finding,) = check(probes)
    return finding


def test_a_machine_that_is_well_has_nothing_to_mend() -> None:
    findings = examine(WELL)
    assert {finding.level for finding in findings} == {"ok"}
    assert len(findings) == 17


@pytest.mark.parametrize(
    ("check", "changes", "level", "says"),
    [
        ("python", {"python": (3, 10, 1)}, "fail", "Python 3.10.1; 3.11 or later"),
        ("instructions", {}, "ok", "AVX2; on this CPU `precision: auto` takes fp32"),
        ("instructions", {"files": {"/proc/cpuinfo": CPUINFO.format("avx512_bf16")}}, "ok", "takes fp32"),
        ("instructions", {"files": {"/proc/cpuinfo": CPUINFO.format("amx_bf16")}}, "ok", "takes bf16"),
        (
            "instructions",
            {"files": {"/proc/cpuinfo": "flags : fpu sse2\n"}},
            "warn",
            "no vector instructions",
        ),
        ("cores", {"cores": 1}, "warn", "1 cores; teachers and trainer share one"),
        ("cores", {"files": {"/sys/fs/cgroup/cpu.max": "150000 100000\n"}}, "warn", "may use 1.5"),
        ("cores", {"files": {"/sys/fs/cgroup/cpu.max": "400000 100000\n"}}, "warn", "may use 4"),
        ("cores", {"files": {"/sys/fs/cgroup/cpu.max": "max 100000\n"}}, "ok", "8 cores"),
        (
            "cores",
            {
                "files": {
                    "/sys/fs/cgroup/cpu/cpu.cfs_quota_us": "200000\n",
                    "/sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
                }
            },
            "warn",
            "may use 2",
        ),
        ("memory", {"memory": lambda: (4 * GIB, 2 * GIB)}, "warn", "3 GB or more"),
        ("memory", {"memory": lambda: (4 * GIB, GIB // 2)}, "fail", "3 GB or more"),
        ("memory", {"files": {"/sys/fs/cgroup/memory.max": str(2 * GIB)}}, "warn", "may use 2.1 GB"),
        ("memory", {"files": {"/sys/fs/cgroup/memory.max": "max"}}, "ok", "21.5 GB of 34.4 GB"),
        ("shared_memory", {"disk": lambda path: (2**26, 2**26)}, "warn", "Ray wants 10.3 GB"),
        ("shared_memory", {"disk": lambda path: None}, "warn", "there is no /dev/shm"),
        ("disk", {"disk": lambda path: (9 * GIB, 4 * GIB)}, "warn", "5 GB or more"),
        ("disk", {"disk": lambda path: (9 * GIB, 2**20)}, "fail", "5 GB or more"),
        ("disk", {"disk": lambda path: None}, "fail", "cannot be looked at"),
        ("ray_state", {"files": {CURRENT_CLUSTER: "10.0.0.1:6379"}}, "warn", "but no Ray answers there"),
        (
            "ray_state",
            {"files": {CURRENT_CLUSTER: "10.0.0.1:6379"}, "answers": "10.0.0.1:6379".__eq__},
            "ok",
            "auto joins",
        ),
        ("temp_folder", {"environ": {"TMPDIR": "/scratch/me"}}, "ok", "sessions in /scratch/me/ray"),
        ("temp_folder", {"environ": {"TMPDIR": LONG}}, "warn", "sessions are kept in /tmp/ray"),
        ("temp_folder", {"environ": {"TMPDIR": LONG, "RAY_TMPDIR": "/r"}}, "ok", "sessions in /r/ray"),
        (
            "temp_folder",
            {"environ": {"TMPDIR": LONG}, "writable": lambda folder: False},
            "fail",
            "Ray's sockets do not fit below /scratch/",
        ),
        ("compiler", {"which": lambda name: None}, "warn", "no C++ compiler"),
        ("open_files", {"open_files": lambda: 1024}, "warn", "at most 1,024 open files"),
        ("open_files", {"open_files": lambda: -1}, "ok", "no limit"),
        ("gpus", {"which": lambda name: f"/bin/{name}"}, "warn", "finds no GPU"),
    ],
)
def test_what_is_not_well_is_said(check: str, changes: dict[str, Any], level: str, says: str) -> None:
    finding = only(getattr(checks, check), machine(**changes))
    assert finding.level == level
    assert says in finding.text
    assert bool(finding.fix) == (level != "ok")


def test_the_fix_for_shared_memory_fits_what_is_there() -> None:
    finding = only(checks.shared_memory, machine(disk=lambda path: (2**30, 2**30)))
    assert finding.fix == "docker run --shm-size=10g, or set ray.object_store_mb=819"


def test_shared_memory_is_a_question_for_linux_only() -> None:
    assert list(checks.shared_memory(machine(system="darwin"))) == []


def test_missing_and_old_packages_fail_without_being_imported() -> None:
    versions = {**VERSIONS, "ray": "2.59.1", "torch": "2.13.0+cpu"}
    del versions["deepspeed"]
    levels = {f.check: (f.level, f.text) for f in checks.packages(machine(version=versions.get))}
    assert levels["ray"] == ("fail", "ray 2.59.1; 2.60 or later is needed")
    assert levels["deepspeed"] == ("fail", "deepspeed is not installed")
    assert levels["torch"] == ("ok", "torch 2.13.0+cpu")


def test_taken_ports_are_named_with_their_use() -> None:
    found = list(checks.ports(machine(port_is_free=lambda port: port == 6379)))
    assert [(f.level, f.text) for f in found] == [
        ("ok", "6379 free on loopback"),
        ("warn", "port 8000 (the endpoint) is taken"),
        ("warn", "port 8265 (Ray's dashboard) is taken"),
    ]
    assert "serve.port=0" in found[1].fix


@pytest.mark.parametrize(
    ("environ", "files", "level"),
    [
        ({}, {}, "warn"),
        ({"RAY_AUTH_MODE": "disabled"}, {}, "ok"),
        ({"RAY_AUTH_MODE": "token"}, {}, "fail"),
        ({"RAY_AUTH_MODE": "token"}, {"/home/me/.ray/auth_token": "secret"}, "ok"),
        ({"RAY_AUTH_MODE": "token"}, {"/home/me/.ray/auth_token": " \n"}, "fail"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "secret"}, {}, "ok"),
        ({"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "/t"}, {"/t": "secret"}, "ok"),
    ],
)
def test_a_cluster_that_is_named_needs_its_token(
    environ: dict[str, str], files: dict[str, str], level: str
) -> None:
    there = {"environ": {"RAY_ADDRESS": "10.0.0.1:6379", **environ}, "files": files}
    probes = machine(**there, answers=lambda address: True)
    _, finding = checks.ray_state(probes)
    assert (finding.check, finding.level) == ("ray address", level)
    assert "secret" not in finding.text + finding.fix


@pytest.mark.parametrize(
    ("torch", "line", "level", "says"),
    [
        (
            "2.13.0",
            "NVIDIA H100, 81559, 570.1, 9.0",
            "ok",
            "(80 GiB, driver 570.1); on it `precision: auto` takes bf16",
        ),
        ("2.13.0", "Tesla T4, 15360, 535.2, 7.5", "ok", "takes fp32"),
        ("2.13.0+cpu", "Tesla T4, 15360, 535.2, 7.5", "warn", "torch is a CPU build"),
    ],
)
def test_gpus_are_asked_of_nvidia_smi(torch: str, line: str, level: str, says: str) -> None:
    probes = machine(
        which=lambda name: f"/bin/{name}",
        command=lambda *words: line,
        version={**VERSIONS, "torch": torch}.get,
    )
    finding = only(checks.gpus, probes)
    assert finding.level == level
    assert says in finding.text


@pytest.mark.parametrize(
    ("answers", "says"),
    [
        ({"hw.optional.arm64": "1", "hw.optional.arm.FEAT_BF16": "1"}, "NEON, NEON BF16"),
        ({"machdep.cpu.features": "SSE4.2 AVX1.0\nBMI1 AVX2"}, "AVX2"),
    ],
)
def test_a_mac_is_asked_by_sysctl(answers: dict[str, str], says: str) -> None:
    probes = replace(
        WELL, system="darwin", read=lambda path: None, command=lambda *words: answers.get(words[2])
    )
    finding = only(checks.instructions, probes)
    assert finding.level == "ok"
    assert finding.text.startswith(says)


def test_a_check_that_cannot_look_is_a_finding_and_not_the_end() -> None:
    def broken() -> tuple[int, int]:
        raise OSError("no such thing")

    findings = examine(machine(memory=broken))
    assert any(f.level == "warn" and "OSError: no such thing" in f.text for f in findings)
    assert findings[-1].check == "open files"


def test_each_check_yields_fixes_for_all_that_is_not_well() -> None:
    sick = machine(
        python=(3, 9, 0),
        cores=1,
        version=lambda name: None,
        port_is_free=lambda port: False,
        disk=lambda path: (1, 1),
        memory=lambda: (1, 1),
        open_files=lambda: 1,
        which=lambda name: None,
    )
    for check in CHECKS:
        for finding in check(sick):
            assert finding.level == "ok" or finding.fix, finding


def test_the_command_gives_json_and_exit_code_3_when_something_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    for probes, code in ((WELL, 0), (machine(python=(3, 9, 0)), 3), (machine(cores=1), 0)):
        monkeypatch.setattr(doctor, "Probes", lambda probes=probes: probes)
        out = io.StringIO()
        assert main(["doctor", "--json"], stdout=out, stderr=io.StringIO()) == code
        answer = json.loads(out.getvalue())
        assert answer["ok"] is (code == 0)
        assert set(answer["checks"][0]) == {"check", "level", "text", "fix"}


def test_the_report_names_each_fix() -> None:
    console = Console(stdout=io.StringIO(), stderr=io.StringIO())
    text = doctor.report(examine(machine(cores=1)), console)
    assert "warn  cores" in text
    assert "fix: give it 2 CPUs" in text
    assert text.endswith("ready; 1 of 17 checks could be better")


def test_the_smallest_versions_are_those_of_the_project() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    for name, least in REQUIRED.items():
        found = re.search(rf'"{name}(?:\[[^\]]*\])?>=([\d.]+)', text)
        assert found
        assert tuple(map(int, found.group(1).split("."))) == least


def test_a_cluster_that_is_named_and_silent_cannot_be_joined() -> None:
    environ = {"RAY_ADDRESS": "10.0.0.1:6379", "RAY_AUTH_MODE": "disabled"}
    _, finding = checks.ray_state(machine(environ=environ))
    assert (finding.level, finding.text) == (
        "fail",
        "RAY_ADDRESS is 10.0.0.1:6379, and nothing answers there",
    )


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "http://localhost:{}/api"])
def test_an_address_answers_when_it_takes_connections(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, int]] = []

    def connect(place: tuple[str, int], timeout: float) -> Any:
        asked.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr("socket.create_connection", connect)
    assert not Probes().answers(address.format(6379))
    assert asked[0][1] == 6379
    assert asked[0][0] in ("127.0.0.1", "localhost")
    assert not Probes().answers("auto")
