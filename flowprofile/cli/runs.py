"""plan, run and rerun."""

from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table

from flowprofile.cli import options
from flowprofile.cli.main import printed
from flowprofile.flow.budget import human
from flowprofile.flow.reasons import reasons

if TYPE_CHECKING:
    from flowprofile.running import Outcome, Projection


@click.command()
@options.pipeline
@options.into
@click.option(
    "--no-time", is_flag=True, help="Do not measure this machine's speed where it is not known yet."
)
@options.as_json
def plan(
    pipeline: str,
    into: str | None,
    overrides: tuple[str, ...],
    allow_code: bool,
    no_time: bool,
    as_json: bool,
) -> None:
    """Count what PIPELINE would compute: forwards, bytes and seconds per stage. The store is not touched."""
    from flowprofile.projecting import as_table
    from flowprofile.running import assembled, calibrate, project

    store = options.store_of(into, pipeline)
    ready = assembled(pipeline, overrides=overrides, allow_code=allow_code)
    projection = project(ready, store)
    if len(projection.seconds) < len(projection.plan.graph.stages) and not no_time:
        calibrate(ready)
        projection = project(ready, store)
    if as_json:
        printed(as_table(projection))
        return
    show_plan(projection, store)


def show_plan(projection: "Projection", store: str) -> None:
    """The plan as a table with its sums."""
    plan, cost = projection.plan, projection.cost
    console = Console()
    table = Table(
        title=f"{projection.assembled.card.name} -> {store}", title_justify="left", box=None, pad_edge=False
    )
    for heading, side in (("stage", "left"), ("state", "left"), ("cells", "right"), ("forwards", "right"),
                          ("bytes", "right"), ("seconds", "right")):  # fmt: skip
        table.add_column(heading, justify=side)  # type: ignore[arg-type]
    for name, share in plan.shares.items():
        seconds = projection.seconds.get(name)
        table.add_row(
            name,
            share.state if plan.graph.stages[name].stored else "in flight",
            f"{share.cells:,}",
            f"{share.forwards:,}",
            human(projection.disk.get(name, 0)),
            "?" if seconds is None else f"{seconds:,.1f}",
        )
    console.print(table)
    for name, why in reasons(plan).items():
        console.print(f"  {name}: {why}", highlight=False, style="dim")
    total = f"{sum(projection.seconds.values()):,.0f} s"
    known = len(projection.seconds) == len(plan.graph.stages)
    how_long = f"about {total}" if known else f"at least {total} (not every stage was timed)"
    console.print(
        f"\n{plan.forwards:,} forwards of {len(plan.batches)} batches (+ {plan.padded:,} padding), "
        f"{human(cost.store)} to store, {human(cost.scratch)} scratch, {human(cost.memory)} memory, {how_long}",
        highlight=False,
    )
    for warning in projection.warnings.values():
        console.print(f"note: {warning}", style="yellow", highlight=False)


@click.command()
@options.pipeline
@options.into
@click.option(
    "--layout",
    help="How new arrays are laid out and written: a name from stores/.  [default: local, or s3 in a bucket]",
)
@click.option("--memory", type=options.Size(), help="Refuse a plan that needs more memory, e.g. 8GB.")
@click.option("--disk", type=options.Size(), help="Refuse a plan that writes more, e.g. 200GB.")
@click.option(
    "--accept-weights", is_flag=True, help="Let changed weights begin a run of their own in this store."
)
@options.workers
@click.option(
    "--part",
    type=options.Part(),
    metavar="I/N",
    help="Compute only part I of N (counted from 0) of a declared store; needs no planner.",
)
@options.wait
@click.option("--quiet", is_flag=True, help="No progress bar.")
@options.as_json
def run(
    pipeline: str,
    into: str | None,
    overrides: tuple[str, ...],
    allow_code: bool,
    layout: str | None,
    memory: int | None,
    disk: int | None,
    accept_weights: bool,
    cluster: str | None,
    part: tuple[int, int] | None,
    wait: float,
    quiet: bool,
    as_json: bool,
) -> None:
    """Compute whatever the store does not hold yet of PIPELINE. Interrupt and repeat as you like."""
    from flowprofile import running
    from flowprofile.cli.progress import progress

    store = options.store_of(into, pipeline)
    ready = running.assembled(pipeline, overrides=overrides, allow_code=allow_code)
    with progress(quiet=quiet or as_json) as listen:
        outcome = running.run(
            ready,
            into=store,
            listen=listen,
            layout=layout,
            memory=memory,
            disk=disk,
            accept_weights=accept_weights,
            allow_code=allow_code,
            cluster=cluster,
            part=part,
            wait=wait,
        )
    if as_json:
        printed(vars(outcome) | {"store": store, "warnings": dict(outcome.warnings)})
        return
    say_outcome(outcome, store)


def say_outcome(outcome: "Outcome", store: str) -> None:
    """One line about what happened, and every warning."""
    for warning in outcome.warnings.values():
        click.secho(f"note: {warning}", fg="yellow", err=True)
    if outcome.regions == 0:
        click.echo(f"{store} holds all of it already: 0 forwards, nothing written.")
        return
    click.echo(
        f"{store}: {outcome.forwards:,} forwards (+ {outcome.padding:,} padding), {outcome.regions:,} regions, "
        f"{human(outcome.bytes)} in {outcome.seconds:,.1f} s"
    )


@click.command()
@options.pipeline
@options.into
@click.option("--layout", help="How new arrays are laid out.  [default: local, or s3 in a bucket]")
@click.option(
    "--accept-weights", is_flag=True, help="Let changed weights begin a run of their own in this store."
)
@options.wait
def declare(
    pipeline: str,
    into: str | None,
    overrides: tuple[str, ...],
    allow_code: bool,
    layout: str | None,
    accept_weights: bool,
    wait: float,
) -> None:
    """Write the axes and arrays of PIPELINE's store once, so that parts of it can be run by a job array.

    Afterwards: flowprofile run PIPELINE --into STORE --part $SLURM_ARRAY_TASK_ID/32
    """
    from flowprofile import running

    store = options.store_of(into, pipeline)
    ready = running.assembled(pipeline, overrides=overrides, allow_code=allow_code)
    left = running.prepare(ready, into=store, layout=layout, accept_weights=accept_weights, wait=wait)
    click.echo(
        f"{store} is declared: {len(left.plan.tasks):,} tasks and {left.plan.forwards:,} forwards are left, "
        f"{human(left.cost.store)} to store."
    )


@click.command()
@click.argument("store")
@click.option("--into", metavar="STORE", help="Fill another store instead of STORE itself.")
@options.overrides
@options.allow_code
@options.workers
@options.wait
@click.option("--quiet", is_flag=True, help="No progress bar.")
def rerun(
    store: str,
    into: str | None,
    overrides: tuple[str, ...],
    allow_code: bool,
    cluster: str | None,
    wait: float,
    quiet: bool,
) -> None:
    """Compute everything STORE was ever asked for again, from the definitions it holds, where it is missing.

    With --set it is the last of them alone, with that value changed: a store grows without its file at hand.
    """
    from flowprofile import running
    from flowprofile.cli.progress import progress

    target = into if into is not None else store
    for pipeline in running.recorded(store, overrides=overrides):
        ready = running.reassembled(pipeline, store, allow_code=allow_code)
        with progress(quiet=quiet) as listen:
            outcome = running.run(
                ready, into=target, listen=listen, allow_code=allow_code, cluster=cluster, wait=wait
            )
        say_outcome(outcome, target)


@click.command()
@click.argument("store")
@click.option(
    "--seeds", type=options.SeedRange(), metavar="0:100", help="These seeds.  [default: as asked before]"
)
@click.option(
    "--labels", type=options.LabelList(), metavar="3,5", help="These labels.  [default: as asked before]"
)
@click.option("--allow-code", is_flag=True, help='Allow use = "module:name" to import your code.')
@options.workers
@options.wait
@click.option("--quiet", is_flag=True, help="No progress bar.")
def ensure(
    store: str,
    seeds: tuple[int, ...] | None,
    labels: tuple[int, ...] | None,
    allow_code: bool,
    cluster: str | None,
    wait: float,
    quiet: bool,
) -> None:
    """Have everything STORE was ever asked for computed for some seeds and labels, as far as it is missing."""
    from flowprofile import running
    from flowprofile.cli.progress import progress

    with progress(quiet=quiet) as listen:
        running.ensure(
            store,
            seeds=seeds,
            labels=labels,
            listen=listen,
            allow_code=allow_code,
            cluster=cluster,
            wait=wait,
        )
    click.echo(f"{store} holds it.")
