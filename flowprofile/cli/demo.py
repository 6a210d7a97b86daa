"""demo: a first profile, from nothing to figures."""

from pathlib import Path

import click


@click.command()
@click.option(
    "--into", default="out/first-profile", show_default=True, metavar="STORE", help="Where the store goes."
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a value of the pipeline."
)
@click.option("--quiet", is_flag=True, help="No progress bar.")
def demo(into: str, overrides: tuple[str, ...], quiet: bool) -> None:
    """Run the pipeline `first-profile`, draw its figures, and say how to open the store."""
    from flowprofile import running
    from flowprofile.cli.drawing import draw
    from flowprofile.cli.progress import progress
    from flowprofile.cli.runs import say_outcome

    ready = running.assembled("first-profile", overrides=overrides)
    count = len(ready.sweep)
    click.echo(
        f"{ready.card.name}: {len(ready.sweep.seeds)} seeds x {len(ready.sweep.labels)} labels, "
        f"{len(ready.context.grid) - 1} steps -> {into}"
    )
    with progress(quiet=quiet) as listen:
        outcome = running.run(ready, into=into, listen=listen)
    say_outcome(outcome, into)
    for path, fresh in draw(into, Path(into).parent / "figures"):
        click.echo(f"  {path}" + ("" if fresh else "  (up to date)"))
    click.echo(f"\nOpen it ({count} samples):\n")
    click.echo("  import flowprofile as fp")
    click.echo(f"  ds = fp.open({into!r})")
    click.echo(
        f'  ds.profile.sel(label={ready.sweep.labels[-1]}, time=slice(800, 600), objects="trajectory")'
    )
