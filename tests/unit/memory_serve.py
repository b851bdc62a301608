"""A `Place` in memory: what runs where, and a script of what becomes of a version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from serve_apps.rollout import Tell
from serve_apps.schemas import VersionRef
from serve_apps.targets import Running, Target
from tutelage.config.runtime import ServeConfig
from tutelage.errors import TutelageError


def target(name: str = "films", version: str = "new", route: str | None = None, **config: object) -> Target:
    """What `name` is to answer with."""
    return Target(
        name=name,
        route=route or f"/{name}",
        folder=f"/versions/{version}",
        version=VersionRef(name="m", id=version),
        config=ServeConfig.model_validate(config),
    )


def serving(of: Target) -> Running:
    """An endpoint that answers with it."""
    return Running(of.name, of.route, "RUNNING", ours=True, target=of, replicas=1)


@dataclass
class MemoryServe:
    """Serve as a dictionary.

    `proving` is raised by a candidate; `becomes` maps a version to the states that its replicas go through,
    the last of which stays.
    """

    apps: dict[str, Running] = field(default_factory=dict)
    proving: TutelageError | None = None
    becomes: dict[str, list[str]] = field(default_factory=dict)
    problem: str = ""
    """What Serve, or the proxy, says of replicas that do not come up."""
    on_look: Callable[[], None] = lambda: None
    calls: list[str] = field(default_factory=list)

    def applications(self) -> Mapping[str, Running]:
        self.on_look()
        for name, app in self.apps.items():
            states = self.becomes.get(app.target.version.id, []) if app.target else []
            if states:
                state = states.pop(0) if len(states) > 1 else states[0]
                self.apps[name] = replace(app, state=state, problem=self.problem)
        return dict(self.apps)

    def prove(self, target: Target, limit_s: float, tell: Tell) -> None:
        self.calls.append(f"prove {target.version.id}")
        tell("waiting for 1 CPU")
        if self.proving:
            raise self.proving

    def run(self, target: Target) -> None:
        self.calls.append(f"run {target.version.id}")
        self.apps[target.name] = serving(target)

    def delete(self, name: str) -> None:
        self.calls.append(f"delete {name}")
        del self.apps[name]

    def differs(self, target: Target) -> str:
        return "" if self.apps[target.name].target == target else "another version answers"


@dataclass
class Clock:
    """Each pause is a second."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, _seconds: float) -> None:
        self.now += 1
