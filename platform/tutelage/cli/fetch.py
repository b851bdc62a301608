"""`tutelage fetch`: public data sets and models, checked by sha256."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tutelage.cli.console import Console


def fetch(
    ctx: typer.Context,
    names: Annotated[
        list[str] | None, typer.Argument(help="Collections or models, such as reviews, minilm.")
    ] = None,
    listing: Annotated[
        bool, typer.Option("--list", help="Say what there is, with source and licence.")
    ] = False,
) -> None:
    """Fetch data sets and models into $TUTELAGE_HOME; what is there already is only checked."""
    from tutelage.config.base import unknown_key
    from tutelage.data.catalog import DATASETS, MODELS, fetch_dataset, fetch_model
    from tutelage.errors import ConfigError
    from tutelage.files import home

    console: Console = ctx.obj
    known = [*DATASETS, *MODELS]
    if listing or not names:
        entries = [entry for table in (DATASETS, MODELS) for entry in table.values()]
        rows = [[entry.name, entry.what, entry.source, entry.licence] for entry in entries]
        columns = ["name", "what", "source", "licence"]
        data = [dict(zip(columns, row, strict=True)) for row in rows]
        console.result({"catalog": data}, lambda: console.table("Catalog", columns, rows))
        return
    places: dict[str, str] = {}
    for name in names:
        if name not in known:
            raise ConfigError(
                f"fetch: {unknown_key(name, known)}", fix="`tutelage fetch --list` shows what there is"
            )
        with console.stage(f"fetch {name}") as stage:
            if name in MODELS:
                places[name] = str(fetch_model(name, home(), stage))
            else:
                parts = DATASETS[name].parts
                places |= {
                    f"{name}/{part}": str(fetch_dataset(f"{name}/{part}", home(), stage)) for part in parts
                }
    console.result(places, "\n".join(f"{name}  {place}" for name, place in places.items()))
