"""`tutelage doctor`: what of this machine fits, and what to do about the rest."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from tutelage.cli.checks import Finding, examine
from tutelage.cli.probes import Probes

if TYPE_CHECKING:
    from tutelage.cli.console import Console

FAILED = 3
_STYLES = {"ok": "green", "warn": "yellow", "fail": "red"}


def doctor(ctx: typer.Context) -> None:
    """Check Python, libraries, CPU, memory, disk, ports, Ray and GPUs. Exit code 3 when something fails."""
    console: Console = ctx.obj
    findings = examine(Probes())
    failed = any(finding.level == "fail" for finding in findings)
    data = {"ok": not failed, "checks": [asdict(finding) for finding in findings]}
    console.result(data, lambda: report(findings, console))
    if failed:
        raise typer.Exit(FAILED)


def report(findings: list[Finding], console: Console) -> str:
    """The findings as lines, and a sentence at the end."""
    lines = []
    width = max(len(finding.check) for finding in findings)
    for finding in findings:
        level = console.styled(f"{finding.level:<4}", _STYLES[finding.level])
        lines.append(f"{level}  {finding.check:<{width}}  {finding.text}")
        if finding.fix and finding.level != "ok":
            lines.append(f"      {'':<{width}}  {console.styled('fix:', 'cyan')} {finding.fix}")
    counts = {level: sum(f.level == level for f in findings) for level in ("fail", "warn")}
    if counts["fail"]:
        end = f"{counts['fail']} of {len(findings)} checks fail"
    elif counts["warn"]:
        end = f"ready; {counts['warn']} of {len(findings)} checks could be better"
    else:
        end = "ready"
    return "\n".join([*lines, "", end])
