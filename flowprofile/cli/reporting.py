"""report: many experiments, carried out and judged, on one page."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from flowprofile.cli.options import Finite, workers
from flowprofile.errors import FlowProfileError

if TYPE_CHECKING:
    from flowprofile.flow.events import Listen
    from flowprofile.report.carrying import Listening, Section


@click.command()
@click.argument("targets", metavar="FOLDER_OR_PIPELINE...", nargs=-1, required=True)
@click.option(
    "--budget",
    type=Finite(min=0, min_open=True),
    metavar="MINUTES",
    help="Choose the number of seeds so that all of it takes about so long.  [default: as the definitions say]",
)
@click.option(
    "--into",
    default="out/report",
    show_default=True,
    metavar="FOLDER",
    help="Where the stores go, one an item.",
)
@click.option("--html", metavar="PATH", help="Where the page goes.  [default: FOLDER/report.html]")
@click.option("--title", default="The experiments, run again", help="What the page is called.")
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Override a value in all of the definitions.",
)
@workers
@click.option("--allow-code", is_flag=True, help='Allow use = "module:name" to import your code.')
@click.option("--quiet", is_flag=True, help="No progress bar.")
def report(
    targets: tuple[str, ...],
    budget: float | None,
    into: str,
    html: str | None,
    title: str,
    overrides: tuple[str, ...],
    cluster: str | None,
    allow_code: bool,
    quiet: bool,
) -> None:
    """Run every experiment that carries a [report] table, judge it by its own rule, and write one page of it all.

    Again with the same --into, only what is missing is computed. An experiment that fails is shown as failed.
    """
    from flowprofile.report.carrying import Orders, costs_of, sections, short
    from flowprofile.report.items import items
    from flowprofile.report.page import Heading, page, write

    found = items(targets, overrides=overrides)
    orders = Orders(Path(into), budget, overrides, allow_code, cluster)
    done, costs = [], costs_of(found, orders)
    least = short(found, orders, costs)
    if least is not None:
        told = f"The least number of seeds of every experiment takes about {least:g} minutes from nothing, more than the"
        click.echo(f"{told} budget of {budget:g}; none gets fewer.", err=True)
    for section in sections(found, orders, _listening(quiet=quiet), costs):
        _say(section)
        done.append(section)
    path = Path(html) if html is not None else Path(into) / "report.html"
    command = shlex.join(["flowprofile", "report", *_words(targets, budget, into, overrides, cluster)])
    write(path, page(done, Heading(title, command, budget, least)))
    click.echo(f"{path}: {len(done)} experiments, {path.stat().st_size / 1e6:.1f} MB")
    failed = [section for section in done if section.failure is not None]
    if failed:
        raise _refusal(failed)


def _listening(*, quiet: bool) -> "Listening":
    """Tells which item is at work, and how far it is."""
    from flowprofile.cli.progress import progress

    @contextmanager
    def listening(told: str) -> "Iterator[Listen]":
        if not quiet:
            click.echo(told, err=True)
        with progress(quiet=quiet) as listen:
            yield listen

    return listening


def _say(section: "Section") -> None:
    """One line about an item that is done."""
    if section.failure is not None:
        click.secho(f"{section.item.report.item}: failed: {section.failure.fact}", fg="red", err=True)
        return
    verdict = section.verdict
    assert verdict is not None
    click.echo(
        f"{section.item.report.item}: {verdict.outcome} ({verdict.estimate:.4g}, 95 % {verdict.lower:.4g} to"
        f" {verdict.upper:.4g}, {verdict.n} seeds, {section.forwards:,} forwards in {section.seconds:.0f} s)"
    )


def _words(
    targets: tuple[str, ...],
    budget: float | None,
    into: str,
    overrides: tuple[str, ...],
    cluster: str | None,
) -> list[str]:
    words = [*targets, "--into", into]
    words += [] if budget is None else ["--budget", f"{budget:g}"]
    for override in overrides:
        words += ["--set", override]
    words += [] if cluster is None else ["--cluster", cluster]
    return words


def _refusal(failed: "list[Section]") -> FlowProfileError:
    first = failed[0].failure
    assert first is not None
    refusal = type(first)(
        f"{len(failed)} of the experiments failed: {', '.join(one.item.report.item for one in failed)}.",
        consequence="The page shows each with its refusal, and all the others as they came out.",
        remedy="mend what the page says, and give the same command again: the others are stored already",
        evidence=first.fact,
    )
    return refusal
