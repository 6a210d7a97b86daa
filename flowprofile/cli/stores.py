"""show, status, verify and figures: looking at a store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed
from flowprofile.flow.budget import human

if TYPE_CHECKING:
    from flowprofile.store.verify import Report

STORE = click.argument("store", metavar="STORE")


@click.command()
@STORE
@options.as_json
def show(store: str, as_json: bool) -> None:
    """What is in STORE: runs, stages, axes and sizes."""
    from flowprofile.description import describe

    found = describe(store)
    if as_json:
        printed(found)
        return
    for run in found["runs"]:
        model = run["model"]
        shape = "x".join(map(str, model.get("shape", ())))
        click.secho(f"{run['name']}", bold=True, nl=False)
        click.echo(f"  {model.get('name')}, {shape}")
        axes = (_axis(name, run[name]) for name in ("interventions", "labels", "seeds"))
        click.echo(f"  {'; '.join(axes)}")
        for stage in run["stages"]:
            complete = (
                "complete" if stage["present"] == stage["requested"] else f"{stage['present']:,} present"
            )
            click.echo(
                f"  {stage['name']:34} {_axis('states', stage['times'])}, {complete}, {human(stage['bytes'])}"
            )
            click.echo(f"    {stage['kind']} version {stage['version']}  {_params(stage['params'])}", nl=True)


def _axis(name: str, values: list[Any]) -> str:
    shown = ", ".join(map(str, values)) if len(values) <= 4 else f"{values[0]}, {values[1]} .. {values[-1]}"
    return f"{len(values)} {name if len(values) != 1 else name.removesuffix('s')} ({shown})"


def _params(params: dict[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in params.items())


@click.command()
@STORE
@options.as_json
def status(store: str, as_json: bool) -> None:
    """What is missing in STORE, per stage and axis, and the command that computes it."""
    from flowprofile.description import describe

    found = describe(store)
    missing = [
        {"run": run["name"], "stage": stage["name"], "missing": stage["requested"] - stage["present"],
         "requested": stage["requested"]}
        for run in found["runs"] for stage in run["stages"]
    ]  # fmt: skip
    if as_json:
        printed({"store": store, "stages": missing})
        return
    for row in missing:
        click.echo(f"{row['run']}  {row['stage']}: {row['missing']:,} of {row['requested']:,} cells missing")
    if any(row["missing"] for row in missing):
        click.echo(f"\nTo compute them:\n  flowprofile rerun {store}")
    else:
        click.echo("Nothing is missing.")


@click.command()
@STORE
@click.option(
    "--repair", is_flag=True, help="Mend metadata, remove debris, and compute what is missing then."
)
@click.option("--allow-code", is_flag=True, help='Allow use = "module:name" while repairing.')
@options.as_json
def verify(store: str, repair: bool, allow_code: bool, as_json: bool) -> None:
    """Check every byte of STORE against what was acknowledged. Exit code 3 if anything is wrong.

    With --repair, metadata is mended, debris removed, and then everything that STORE was asked for and lacks is
    computed again, be it damaged or never finished.
    """
    from flowprofile.store import verify as verifying

    report = verifying.verify(store)
    rows = [{"kind": one.kind, "object": one.key, "cells": one.cells} for one in report.findings]
    if not as_json:
        click.echo(
            f"{store}: {report.objects:,} objects and {report.receipts:,} receipts checked, "
            f"{human(report.size)} read, {len(rows)} findings"
        )
        for finding in report.findings:
            click.echo(f"  {finding}")
    left = len(rows)
    if repair:
        left = _repaired(store, report, allow_code=allow_code)
        if not as_json:
            click.echo(f"repaired: {len(rows)} findings, {left} left; nothing that was asked for is missing")
    if as_json:
        printed({"store": store, "objects": report.objects, "findings": rows, "left": left})
    if report.sound or (repair and left == 0):
        return
    if not repair:
        click.echo(f"To mend it:\n  flowprofile verify --repair {store}", err=True)
    raise SystemExit(3)


def _repaired(store: str, report: "Report", *, allow_code: bool) -> int:
    """Mend what can be mended, compute what was lost, and count what is still wrong."""
    from flowprofile import running
    from flowprofile.store import verify as verifying

    if any(finding.kind == "metadata damaged" for finding in report.findings):
        # The definitions cannot be read before that.
        verifying.repair(store)
    # Assembled before anything else is retired, so that nothing is that could not be computed again. A store that lacks
    # nothing is tidied without its model: that may be live, or have left.
    ready = []
    if _lacking(store, report):
        definitions = running.recorded(store)
        ready = [running.reassembled(one, store, allow_code=allow_code) for one in definitions]
    verifying.repair(store)
    for pipeline in ready:
        running.run(pipeline, into=store)
    return len(verifying.verify(store).findings)


def _lacking(store: str, report: "Report") -> bool:
    """Whether anything that was asked for is missing, or will be when what is damaged is gone."""
    from flowprofile.description import describe
    from flowprofile.store.store import Store
    from flowprofile.store.verify import HARMLESS

    if any(finding.kind not in (*HARMLESS, "metadata damaged") for finding in report.findings):
        return True
    runs = describe(store)["runs"] if Store.open(store).runs() else []
    return any(stage["present"] < stage["requested"] for run in runs for stage in run["stages"])


@click.command()
@STORE
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of the pictures.  [default: figures/ and the store's name]",
)
def figures(store: str, into: Path | None) -> None:
    """Draw STORE: its pictures over time, maps of what the network showed, and every measure with its null."""
    from flowprofile.cli.drawing import draw, held

    folder, drawn = into or Path("figures") / Path(store.rstrip("/")).name, False
    for path, fresh in draw(store, folder):
        click.echo(f"{path}" + ("" if fresh else "  (up to date)"))
        drawn = True
    if not drawn:
        click.echo(
            f"There is nothing to draw in {store}: it holds {', '.join(held(store)) or 'nothing'}. Drawn are states,"
            " decoded and predicted images, maps of layers, and measures."
        )
