"""stores: how stores are laid out, and what each layout costs here."""

import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed
from flowprofile.errors import BudgetError, DefinitionError, IntegrityError
from flowprofile.flow.budget import human
from flowprofile.store import layout as layouts

if TYPE_CHECKING:
    from rich.table import Table

    from flowprofile.store.layout import StoreLayout
    from flowprofile.trial import Answer, Load, Trial

_HEADINGS = {
    "profile": "one profile\nover time",
    "step": "one step over\nall cases",
    "pixel": "one pixel over\ntime and seeds",
    "rows": "random rows",
}


@click.group()
def stores() -> None:
    """List and show the layouts a store can have; measure them."""


@stores.command(name="list")
@options.as_json
def list_(as_json: bool) -> None:
    """Every layout that can be given to `run --layout`."""
    found = [{"name": name, "description": _described(name)} for name in layouts.names()]
    if as_json:
        printed(found)
        return
    for row in found:
        click.echo(f"{row['name']:12} {row['description']}")


@stores.command()
@click.argument("layout")
def show(layout: str) -> None:
    """Print a layout's file."""
    click.echo(layouts.find(layout).read_text("utf-8"), nl=False)


@stores.command()
@click.argument("names", nargs=-1, metavar="[LAYOUT]...")
@click.option("--seeds", default=64, show_default=True, help="Seeds of the trial's store.")
@click.option("--labels", default=2, show_default=True, help="Labels.")
@click.option("--steps", default=400, show_default=True, help="States of a case, 3 x SIDE x SIDE each.")
@click.option("--side", default=32, show_default=True, help="Pixels along an edge.")
@click.option("--repeats", default=5, show_default=True, help="Times each question is asked.")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Keep the stores in this folder.  [default: a temporary one, one store at a time]",
)
@options.as_json
def bench(
    names: tuple[str, ...],
    seeds: int,
    labels: int,
    steps: int,
    side: int,
    repeats: int,
    into: Path | None,
    as_json: bool,
) -> None:
    """Fill a small store of each LAYOUT (all, by default) and measure what it costs to write and to ask.

    The read times are of a store that was just written and is still in memory; bytes and requests hold anywhere.
    """
    from flowprofile.trial import Load

    load = Load(seeds, labels, steps, side)
    chosen = {name: layouts.layout(name) for name in names or layouts.names()}
    with tempfile.TemporaryDirectory(prefix="flowprofile-stores-") as temporary:
        folder = Path(temporary) if into is None else into
        _room(folder, load.bytes * (1 if into is None else len(chosen)))
        found = {}
        for name, layout in chosen.items():
            found[name] = _tried(name, layout, load, folder=folder, keep=into is not None, repeats=repeats)
    _same_answers(found)
    if as_json:
        printed({"load": asdict(load), "layouts": {name: asdict(one) for name, one in found.items()}})
        return
    from rich.console import Console

    console = Console()
    console.print(_table(found))
    console.print(
        f"{seeds} seeds x {labels} labels x {steps} states of 3x{side}x{side}: {human(load.bytes)}. "
        "Per question: median time, bytes read per byte wanted, requests.",
        style="dim", highlight=False,
    )  # fmt: skip


def _described(name: str) -> str:
    """The first sentence of the comment a layout begins with."""
    lines = layouts.find(name).read_text("utf-8").splitlines()
    comment = []
    for line in lines:
        if not line.startswith("#"):
            break
        comment.append(line.lstrip("# "))
    return " ".join(comment).partition(". ")[0].removesuffix(".")


def _room(folder: Path, needed: int) -> None:
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.is_dir())
    free = shutil.disk_usage(existing).free
    if free < 1.2 * needed:
        raise BudgetError(
            f"The trial writes {human(needed)}, and {str(existing)!r} has {human(free)} free.",
            consequence="Nothing was written.",
            remedy="give fewer --seeds or --steps, or another folder with --into",
        )


def _tried(
    name: str, layout: "StoreLayout", load: "Load", *, folder: Path, keep: bool, repeats: int
) -> "Trial":
    from flowprofile.store.places import Place
    from flowprofile.store.urls import place
    from flowprofile.trial import tried

    if (layout.url or "").startswith("memory://"):
        url = f"memory://trial-{os.getpid()}-{name}"
        try:
            return tried(url, layout, load, repeats=repeats)
        finally:
            held: Place = place(url)
            for key in [*held.list("profile.zarr"), *held.list("ledger")]:
                held.delete(key)
    path = folder / Path(name).stem
    if path.exists():
        raise DefinitionError(
            f"{str(path)!r} exists already.",
            consequence="It was left as it is; a trial needs a new store.",
            remedy="name another folder with --into",
        )
    try:
        return tried(str(path), layout, load, repeats=repeats)
    finally:
        if not keep:
            shutil.rmtree(path, ignore_errors=True)


def _same_answers(found: dict[str, "Trial"]) -> None:
    """Refuse to show a table of layouts that do not hold the same values."""
    for query in _HEADINGS:
        digests = {name: trial.answers[query].digest for name, trial in found.items()}
        if len(set(digests.values())) > 1:
            raise IntegrityError(
                f"The layouts give different values for {query!r}.",
                consequence="A layout may change what a question costs, never its answer.",
                remedy="this is a defect of FlowProfile: please report it",
                evidence=str(digests),
            )


def _table(found: dict[str, "Trial"]) -> "Table":
    from rich.table import Table

    table = Table(show_lines=True)
    table.add_column("layout", style="bold")
    for heading in ("stored", "objects", "written,\nMB / CPU s", *_HEADINGS.values()):
        table.add_column(heading, justify="right")
    for name, trial in found.items():
        cells = [_cell(trial.answers[query]) for query in _HEADINGS]
        table.add_row(name, human(trial.stored), f"{trial.objects:,}", f"{trial.rate:,.0f}", *cells)
    return table


def _cell(answer: "Answer") -> str:
    return f"{answer.ms:,.1f} ms\n{answer.read / answer.wanted:,.2f}x, {answer.requests:,} req"
