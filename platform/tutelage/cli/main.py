"""The command `tutelage`: a table of verbs, loaded when they are called.

A verb is one line of VERBS: its name, `module:attribute`, a few words, and its group in the help. The
attribute is a function with typer's annotations, or a `typer.Typer` with several. It takes the console as
`ctx.obj` of a `typer.Context`, and

* shows its steps by `console.stage(...)`, gives its answer by `console.result(data, human)`,
* raises the classes of `tutelage.errors`; their exit codes and messages are handled here,
* ends with another exit code by `raise typer.Exit(code)`,
* imports torch, ray and the like inside its function, after `tutelage.cli.quiet.quiet_libraries()`.

`--json`, `--quiet` and `--debug` may stand anywhere before a bare `--`; no verb declares them.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO, cast

import typer
from typer.core import TyperGroup

from tutelage.cli.console import Console

STOPPED = 130
"""What typer makes of a KeyboardInterrupt."""


@dataclass(frozen=True)
class Verb:
    """One command: where it is, and what the help says of it."""

    name: str
    target: str
    """`module:attribute`, imported when the verb is called."""
    words: str
    group: str


START, LIFE, LOOK = "Start", "Life of a model", "Look"

VERBS = (
    Verb("quickstart", "tutelage.cli.quickstart:quickstart", "The whole way on real data, in minutes", START),
    Verb("init", "tutelage.cli.init:init", "Write a job file for your own data", START),
    Verb("doctor", "tutelage.cli.doctor:doctor", "Check this machine: versions, memory, ports, GPUs", START),
    Verb("config", "tutelage.cli.config:app", "Check, show and explain a job file", START),
    Verb("fetch", "tutelage.cli.fetch:fetch", "Fetch public data sets and models", START),
    Verb("finetune", "tutelage.cli.finetune:finetune", "Make the teachers of a job", LIFE),
    Verb("distill", "tutelage.cli.distill:distill", "Train the student from its teachers", LIFE),
    Verb("tune", "tutelage.cli.tune:tune", "Search what the student should be, and train the winner", LIFE),
    Verb("export", "tutelage.cli.export:export", "Write ONNX files and record a version", LIFE),
    Verb("deploy", "tutelage.cli.deploy:deploy", "Serve a version over HTTP", LIFE),
    Verb("undeploy", "tutelage.cli.endpoints:undeploy", "Take an endpoint of a cluster down", LIFE),
    Verb("update", "tutelage.cli.update:update", "Learn from new data without losing the old", LIFE),
    Verb("models", "tutelage.cli.models:app", "List, show, verify and name versions", LOOK),
    Verb("endpoints", "tutelage.cli.endpoints:app", "List what a cluster serves", LOOK),
    Verb("runs", "tutelage.cli.runs:app", "List and show runs", LOOK),
    Verb("signals", "tutelage.cli.signals:app", "List, check and clean up the kept signals", LOOK),
    Verb("report", "tutelage.cli.report:report", "Render the report of a run again", LOOK),
)

_ANYWHERE = (
    ("--json", "The answer as JSON on stdout, all else on stderr"),
    ("--quiet", "Only the answer, warnings and errors"),
    ("--debug", "Full tracebacks"),
)
_FLAGS = {flag for flag, _ in _ANYWHERE}


class VerbGroup(TyperGroup):
    """Finds verbs in VERBS and imports one only when it is called."""

    verbs: Sequence[Verb] = VERBS
    stopped: KeyboardInterrupt | None = None
    """What stopped the verb; typer itself turns every one into an exit with 130."""

    def list_commands(self, ctx: Any) -> list[str]:
        """All names, in the order of the table."""
        return [verb.name for verb in self.verbs]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Import the verb."""
        verb = next((verb for verb in self.verbs if verb.name == cmd_name), None)
        return load_verb(verb) if verb else None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The verbs by group; no verb is imported for it."""
        formatter.write(help_text(self.verbs))

    def invoke(self, ctx: Any) -> Any:
        """As typer does, and keep what stopped the verb."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as stopped:
            self.stopped = stopped
            raise

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """As typer does, with suggestions from the table."""
        self.commands = cast(Any, dict.fromkeys(self.list_commands(ctx)))
        return super().resolve_command(ctx, args)


def load_verb(verb: Verb) -> Any:
    """The command object of a verb."""
    module, _, attribute = verb.target.partition(":")
    found = getattr(importlib.import_module(module), attribute)
    if not isinstance(found, typer.Typer):
        function, found = found, typer.Typer(add_completion=False, rich_markup_mode=None)
        found.command(name=verb.name)(function)
    command = typer.main.get_command(found)
    command.name = verb.name
    command.epilog = command.epilog or "Anywhere: --json, --quiet, --debug."
    return command


def help_text(verbs: Sequence[Verb]) -> str:
    """What `tutelage --help` prints."""
    lines = ["Many teachers, one small student, kept current, on Ray.", ""]
    lines += ["  tutelage VERB [OPTIONS] ...    `tutelage VERB --help` says more"]
    width = max(len(verb.name) for verb in verbs) + 3
    width = max(width, 12)
    for group in dict.fromkeys(verb.group for verb in verbs):
        lines += ["", group]
        lines += [f"  {verb.name:<{width}}{verb.words}" for verb in verbs if verb.group == group]
    lines += ["", "Anywhere"]
    lines += [f"  {flag:<{width}}{words}" for flag, words in (*_ANYWHERE, ("--version", "The version"))]
    return "\n".join(lines) + "\n"


def split_flags(argv: Sequence[str]) -> tuple[set[str], list[str]]:
    """The flags that may stand anywhere, and the rest; after a bare `--` everything is the rest."""
    end = argv.index("--") if "--" in argv else len(argv)
    flags = {word for word in argv[:end] if word in _FLAGS}
    return flags, [word for word in argv[:end] if word not in _FLAGS] + list(argv[end:])


def main(
    argv: Sequence[str],
    *,
    stdout: TextIO | None = None,
    stderr: TextIO | None = None,
    verbs: Sequence[Verb] = VERBS,
) -> int:
    """Run one command; gives its exit code. Nothing escapes but SystemExit of other people's code."""
    flags, rest = split_flags(list(argv))
    console = Console(as_json="--json" in flags, quiet="--quiet" in flags, stdout=stdout, stderr=stderr)
    try:
        if rest[:1] == ["--version"]:
            from tutelage import __version__

            console.result({"version": __version__}, f"tutelage {__version__}")
            return 0
        return _call(console, rest or ["--help"], verbs)
    except BrokenPipeError:
        # The reader has seen enough; the interpreter must not try to flush to it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (Exception, KeyboardInterrupt) as error:
        from tutelage.cli.failures import fail

        return fail(error, console, argv, debug="--debug" in flags)
    finally:
        console.close()


def _call(console: Console, args: list[str], verbs: Sequence[Verb]) -> int:
    group = VerbGroup(name="tutelage", no_args_is_help=True)
    group.verbs = verbs
    try:
        code = group.main(args=args, prog_name="tutelage", standalone_mode=False, obj=console)
    except typer.TyperException as error:
        from tutelage.cli.failures import usage

        context = getattr(error, "ctx", None)
        problem = error.format_message()
        if context is not None and problem == context.get_help():  # a group of verbs, called without one
            console.say(problem)
            return 2
        return usage(problem.rstrip("."), console, context.command_path if context else "tutelage")
    if code == STOPPED:
        raise group.stopped or KeyboardInterrupt
    return code if isinstance(code, int) else 0


def run() -> None:
    """The console script: SIGTERM and a closed terminal end it as Ctrl-C does."""
    from actors.signals import stops

    with stops():
        sys.exit(main(sys.argv[1:]))
