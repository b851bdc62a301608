"""What the operating system says of the CPU and of the limits of a container."""

from __future__ import annotations

import re

from tutelage.cli.probes import Probes

INSTRUCTIONS = {
    "AVX2": "avx2",
    "AVX-512": "avx512f",
    "AVX-512 VNNI": "avx512_vnni",
    "AVX-512 BF16": "avx512_bf16",
    "AMX INT8": "amx_int8",
    "AMX BF16": "amx_bf16",
    "NEON": "asimd",
    "NEON BF16": "bf16",
}


def cpu_flags(probes: Probes) -> frozenset[str]:
    """The instruction sets of the CPU, in the words of /proc/cpuinfo."""
    info = probes.read("/proc/cpuinfo")
    if info is not None:
        found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", info, re.MULTILINE)
        return frozenset(found.group(1).split() if found else ())
    features = probes.command("sysctl", "-n", "machdep.cpu.features", "machdep.cpu.leaf7_features") or ""
    flags = set(features.lower().split())
    if probes.command("sysctl", "-n", "hw.optional.arm64") == "1":
        flags.add("asimd")
    if probes.command("sysctl", "-n", "hw.optional.arm.FEAT_BF16") == "1":
        flags.add("bf16")
    return frozenset(flags)


def cpu_quota(probes: Probes) -> float | None:
    """CPUs that the cgroup allows (version 2, then 1); None without a limit."""
    words = (probes.read("/sys/fs/cgroup/cpu.max") or "").split()
    if len(words) == 2 and words[0].isdecimal():
        return int(words[0]) / int(words[1])
    quota = (probes.read("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") or "").strip()
    period = (probes.read("/sys/fs/cgroup/cpu/cpu.cfs_period_us") or "").strip()
    return int(quota) / int(period) if quota.isdecimal() and period.isdecimal() else None


def usable_cpus(probes: Probes) -> float:
    """CPUs of the machine that this process may use."""
    return min(probes.cores, cpu_quota(probes) or probes.cores)


def memory_limit(probes: Probes) -> int | None:
    """Bytes that the cgroup allows; None without a limit below the machine's memory."""
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = (probes.read(path) or "").strip()
        if text.isdecimal() and int(text) < probes.memory()[0]:
            return int(text)
    return None
