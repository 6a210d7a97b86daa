"""drop, pin, unpin, room, gc, compact, merge, migrate, export: keeping a store."""

import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import click

from flowprofile.cli import options
from flowprofile.errors import nearest
from flowprofile.flow.budget import human

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flowprofile.store.store import Store
    from flowprofile.upkeep.choosing import Cells
    from flowprofile.upkeep.drop import Loss

STORE = click.argument("store", metavar="STORE")
YES = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command()
@STORE
@click.argument("stages", nargs=-1, required=True)
@click.option("--seeds", type=options.SeedRange(), metavar="0:100", help="Only of these seeds (half-open).")
@click.option("--labels", type=options.LabelList(), metavar="3,5", help="Only of these labels.")
@click.option("--keep-times", metavar="::50", help="Spare the states of this step filter.")
@YES
def drop(
    store: str,
    stages: tuple[str, ...],
    seeds: tuple[int, ...] | None,
    labels: tuple[int, ...] | None,
    keep_times: str | None,
    yes: bool,
) -> None:
    """Take cells of STAGES (globs) out of STORE; what is left can be grown again at any time."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep.choosing import Cells
    from flowprofile.upkeep.drop import drop as dropped
    from flowprofile.upkeep.drop import losses

    cells = Cells(stages=stages, seeds=seeds, labels=labels, but_times=keep_times)
    with Store.open(store, existing=True) as opened:
        found = losses(opened, cells)
        going = [loss for loss in found if loss.bytes]
        if going:
            click.echo(
                f"{len(going):,} regions lose cells, {human(sum(loss.bytes for loss in going))} are freed."
            )
        if len(going) < len(found):
            click.echo(
                f"{len(found) - len(going):,} regions stay as they are: every chunk in them also holds cells "
                "that stay, so nothing would be freed."
            )
            if keep_times is not None and (names := _packable(opened, found)):
                objects = " ".join(f"--objects '{name}'" for name in names)
                click.echo(
                    "To have the states that stay in chunks of their own, as a new store:\n"
                    f"  flowprofile export {store} --into NEW {objects} --keep-times {keep_times}"
                )
        if not found:
            click.echo("Nothing of that is stored.")
        if not going:
            return
        if not yes:
            click.confirm("Drop them?", abort=True)
        with click.progressbar(length=len(going), label="dropping") as bar:
            dropped(opened, cells, progress=lambda done, total: bar.update(1))


def _packable(store: "Store", found: "Sequence[Loss]") -> list[str]:
    """Stages of which nothing is freed here, and whose kept states would lie side by side in another store."""
    at = {(loss.region.run, loss.region.group) for loss in found if not loss.bytes}
    stages = [store.stages(run)[group] for run, group in at]
    cut = [one for one in stages if any(v.timed and v.form.inner is not None for v in one.variables.values())]
    return sorted({one.group for one in cut})


@click.command()
@STORE
@click.argument("patterns", nargs=-1)
def pin(store: str, patterns: tuple[str, ...]) -> None:
    """Protect stages of STORE (globs) from being dropped; without PATTERNS, list what is protected."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep import pins

    with Store.open(store, existing=True) as opened:
        found = pins.pin(opened, *patterns) if patterns else pins.pinned(opened)
        idle = pins.idle(opened, found)
        names = {stage.group: None for run in opened.runs().values() for stage in run.stages.values()}
    for each in found:
        told = f"  matches no stage yet, so nothing is protected by it; {nearest(each, names)}"
        click.echo(each + (told if each in idle else ""))


@click.command()
@STORE
@click.argument("patterns", nargs=-1, required=True)
def unpin(store: str, patterns: tuple[str, ...]) -> None:
    """Let stages of STORE be dropped again."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep import pins

    with Store.open(store, existing=True) as opened:
        pins.unpin(opened, *patterns)


@click.command()
@STORE
@click.option("--budget", type=options.Size(), required=True, help="Bytes the data may have, e.g. 200GB.")
@click.option("--yes", is_flag=True, help="Drop what is listed.")
def room(store: str, budget: int, yes: bool) -> None:
    """Say what of STORE would be dropped to fit a budget, in order; with --yes, drop it."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep.drop import drop as dropped
    from flowprofile.upkeep.room import room as needed

    with Store.open(store, existing=True) as opened:
        found = needed(opened, budget)
        click.echo(f"{store} holds {human(found.held)}; allowed are {human(budget)}.")
        for step in found.steps:
            click.echo(f"  drop {' '.join(step.cells.stages)}: {human(step.bytes)} ({step.why})")
        click.echo(f"{human(found.left)} would be left.")
        if found.left > budget:
            click.echo(
                "That is over the budget: what is left is measures, what is pinned, and kept states with those "
                "that lie in one chunk with them."
            )
        for step in found.steps if yes else ():
            dropped(opened, step.cells)


@click.command()
@STORE
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
def gc(store: str, dry_run: bool) -> None:
    """Remove objects of STORE that nothing acknowledges: leavings of kills, of growth and of drops."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep import tidy

    with Store.open(store, existing=True) as opened:
        found = tidy.waste(opened) if dry_run else tidy.gc(opened)
    click.echo(f"{len(found.keys):,} objects, {human(found.bytes)}{' would be' if dry_run else ''} removed.")


@click.command()
@STORE
def compact(store: str) -> None:
    """Write the names of STORE's regions into one file per stage: a finished sweep is then recognised at once."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep.compact import compact as compacted

    with Store.open(store, existing=True) as opened:
        found = compacted(opened)
    later = (
        f"; {found.unsettled} folders changed just now, compact again in a few seconds"
        if found.unsettled
        else ""
    )
    click.echo(f"{found.regions:,} regions of {found.stages} stages{later}.")


@click.command()
@click.argument("stores", nargs=-1, required=True)
@click.option("--into", required=True, metavar="STORE", help="The store that gets everything.")
@click.option("--layout", help="How it is laid out, if it is new.")
def merge(stores: tuple[str, ...], into: str, layout: str | None) -> None:
    """Join STORES of one recipe; repeating it writes nothing that is there."""
    _joined(stores, into, layout)


@click.command()
@STORE
@click.option("--into", required=True, metavar="STORE", help="A new store, which gets everything.")
@click.option("--layout", help="How it is laid out.")
def migrate(store: str, into: str, layout: str | None) -> None:
    """Write STORE anew, in today's schema and any layout, and compare every cell; STORE stays as it is."""
    from flowprofile.store.store import Store
    from flowprofile.upkeep.joining import laid_out
    from flowprofile.upkeep.migrate import migrate as migrated

    with Store.open(into, layout=layout) as target:
        if layout is not None:
            laid_out(target)
        found = migrated(Store.open(store, existing=True), target)
    click.echo(
        f"{into}: {found.regions:,} regions written, {found.cells:,} cells read again and the same. {store} may go."
    )


@click.command()
@STORE
@click.option(
    "--into",
    required=True,
    metavar="FILE|STORE",
    help="A new file (.nc, .safetensors, .zarr, .arrow, .parquet); a name without an ending, or an address, is a store.",
)
@click.option("--objects", multiple=True, help="Names or globs: trajectory, activations/*.")
@click.option("--measures", multiple=True, help="Names of measures.")
@click.option("--seed", type=options.SeedRange(), metavar="0:100", help="A seed, or a range (half-open).")
@click.option("--label", type=int, help="A label.")
@click.option(
    "--time", metavar="800:600", help="A state, or a range in descending order, both ends included."
)
@click.option("--keep-times", metavar="::50", help="Only the states of this step filter, into a store.")
@click.option("--layout", help="How it is laid out, if it is a store.")
def export(
    store: str,
    into: str,
    objects: tuple[str, ...],
    measures: tuple[str, ...],
    seed: tuple[int, ...] | None,
    label: int | None,
    time: str | None,
    keep_times: str | None,
    layout: str | None,
) -> None:
    """Write a selection of STORE into a file other programs read, or into a store of its own."""
    if "://" in into or not PurePath(into).suffix:
        from flowprofile.upkeep.choosing import Cells

        first, last = _ends(time or ":")
        cells = Cells(
            stages=(*objects, *(f"measures/{name}" for name in measures)) or ("*",),
            seeds=seed,
            labels=None if label is None else (label,),
            times=keep_times,
            span=None if time is None else (sys.maxsize if first is None else first, last or 0),
        )
        _joined((store,), into, layout, cells)
        return
    for name, given in (("--layout", layout), ("--keep-times", keep_times)):
        if given is not None:
            raise click.UsageError(f"{name} is for stores; --into names a file.")
    from flowprofile import opening
    from flowprofile.upkeep.export import export as exported
    from flowprofile.upkeep.export import missing

    wanted: dict[str, Any] = {
        "objects": list(objects) or None,
        "measures": list(measures) or None,
        "label": label,
    }
    if seed is not None:
        wanted["seed"] = seed[0] if len(seed) == 1 else list(seed)
    if time is not None:
        first, last = _ends(time)
        wanted["time"] = first if ":" not in time else slice(first, last)
    tree = opening.open(store)
    selected = tree.profile.sel(**{key: value for key, value in wanted.items() if value is not None})
    path = exported(selected, into)
    size = sum(f.stat().st_size for f in ([path] if path.is_file() else path.rglob("*")) if f.is_file())
    lacking, asked = missing(selected)
    told = f"; {lacking:,} of {asked:,} cells are not stored and are NaN in it" if lacking else ""
    click.echo(f"{path}: {human(size)}{told}")


def _joined(stores: tuple[str, ...], into: str, layout: str | None, cells: "Cells | None" = None) -> None:
    from flowprofile.store.store import Store
    from flowprofile.upkeep.joining import laid_out
    from flowprofile.upkeep.merge import merge as merged

    sources = [Store.open(each, existing=True) for each in stores]
    with Store.open(into, layout=layout) as target:
        if layout is not None:
            laid_out(target)
        found = merged(sources, target, cells=cells)
    click.echo(
        f"{into}: {found.regions:,} regions written, {found.cells:,} cells; {found.there:,} were there."
    )


def _ends(time: str) -> tuple[int | None, int | None]:
    """The states of 800:600, 800: and :600; both ends of a single one."""
    parts = time.split(":")
    if len(parts) > 2 or not all(part.strip().isdecimal() or not part.strip() for part in parts):
        raise click.BadParameter(
            f"{time!r} is no range of states; write for instance 800:600", param_hint="--time"
        )
    ends = [int(part) if part.strip() else None for part in parts]
    return ends[0], ends[-1]
