"""layers: where a model can be looked at."""

from dataclasses import asdict

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed


@click.command()
@click.argument("model")
@click.option("--size", type=click.IntRange(min=1), help="Side of the image, for a network that takes any.")
@options.as_json
def layers(model: str, size: int | None, as_json: bool) -> None:
    """Where MODEL can be looked at: ids in the order of the forward pass, shapes, bytes of one sample at one step."""
    from dataclasses import replace

    from flowprofile.flow.budget import human
    from flowprofile.models import zoo
    from flowprofile.models.sites import sites

    card = zoo.card(model)
    if size is not None:
        card = replace(card, shape=(card.shape[0], size, size))
    found = sites(card, model)
    if as_json:
        printed([{"id": name, **asdict(site), "bytes": site.bytes} for name, site in found.items()])
        return
    if not found:
        click.echo(f"{card.name} is a formula: there is nothing between its input and its eps.")
        return
    width = max(map(len, found))
    click.echo(f"{'id':{width}}  {'channels':>8}  {'y x':>9}  {'bytes per step':>14}")
    for name, site in found.items():
        mark = "" if site.listed else "   the sum behind it; named, never meant by a pattern"
        mark += "   tokens" if site.tokens else ""
        mark += f"   attention, {site.attends.heads} heads" if site.attends is not None else ""
        click.echo(
            f"{name:{width}}  {site.channels:8}  {f'{site.y} x {site.x}':>9}  {human(site.bytes):>14}{mark}"
        )
    listed = [site for site in found.values() if site.listed]
    total = sum(site.bytes for site in listed)
    click.echo(f"{len(listed)} layers, {human(total)} per sample and step if all were kept")
