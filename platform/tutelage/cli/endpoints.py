"""`tutelage undeploy` and `tutelage endpoints`: what a cluster serves, and taking one of it down."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tutelage.cli.finetune import Address

if TYPE_CHECKING:
    from serve_apps.ray_serve import RayServe
    from serve_apps.targets import Running
    from tutelage.cli.console import Console

app = typer.Typer(
    add_completion=False, rich_markup_mode=None, no_args_is_help=True, help="List what a cluster serves."
)


def undeploy(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="The endpoint; `tutelage endpoints ls` lists them.")],
    address: Address = None,
) -> None:
    """Take one endpoint of a cluster down; requests in flight are answered first, others go on."""
    from serve_apps.deploy import undeploy as end

    console: Console = ctx.obj
    with _joined(address):
        end(name)
    console.result({"endpoint": name, "down": True}, f"the endpoint {name} is down")


@app.callback()
def _group() -> None:
    """List what a cluster serves."""


@app.command()
def ls(ctx: typer.Context, address: Address = None) -> None:
    """List the applications of the cluster's Serve, with the version that each endpoint answers with."""
    console: Console = ctx.obj
    with _joined(address) as serve:
        rows = [to_row(one, serve.url) for _, one in sorted(serve.applications().items())]

    def human() -> str | None:
        if not rows:
            return "nothing is served"
        console.table("", list(rows[0]), [[str(value) for value in row.values()] for row in rows])
        return None

    console.result({"endpoints": rows}, human)


def to_row(app: Running, url: str) -> dict[str, Any]:
    """One application; what tutelage did not make has no version."""
    target = app.target
    return {
        "endpoint": app.name,
        "state": app.state.lower().replace("_", " "),
        "url": "" if app.route is None else url + app.route.rstrip("/"),
        "version": target.ref if target else "" if app.ours else "not tutelage's",
        "variant": target.config.variant if target else "",
        "replicas": app.replicas if app.ours else "",
    }


@contextmanager
def _joined(address: str | None) -> Iterator[RayServe]:
    from actors.session import cluster_address, session
    from serve_apps.ray_serve import running_serve
    from tutelage.cli.deploy import sections
    from tutelage.cli.quiet import quiet_libraries
    from tutelage.errors import ConfigError
    from tutelage.files import home

    quiet_libraries()
    _, ray = sections({}, [f"ray.address={address}"] if address else [])
    if cluster_address(ray) is None:
        raise ConfigError(
            "endpoints that stay are those of a cluster",
            fix="give --address or RAY_ADDRESS; on this machine Ctrl-C ends `tutelage deploy`",
        )
    with session(ray, home()):
        yield running_serve()
