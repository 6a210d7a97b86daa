"""models, train and convert: what can be profiled by name, and how it came about."""

from pathlib import Path

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed


@click.command()
@click.argument("name", required=False)
@options.as_json
def models(name: str | None, as_json: bool) -> None:
    """The models that come with FlowProfile, or all that is known about the one of this NAME or path."""
    from flowprofile.models import zoo

    if name is None:
        cards = [zoo.card(known) for known in zoo.NAMES]
        if as_json:
            printed([card.table() for card in cards])
            return
        for card in cards:
            space = card.labels
            labels = "+".join(space.attributes) or f"{space.classes} classes"
            fidelity = card.fidelity.get("fidelity")
            measured = f"  label fidelity {float(fidelity):.1%}" if fidelity is not None else "  closed form"
            click.echo(f"{card.name:12} {'x'.join(map(str, card.shape)):9} {labels:28}{measured}")
        return
    card = zoo.card(name)
    if as_json:
        printed(card.table() | {"identity": zoo.identity(name)})
        return
    click.echo(
        f"{card.name}: {card.architecture}, {'x'.join(map(str, card.shape))}, predicts {card.prediction}"
    )
    click.echo(f"identity   {zoo.identity(name)}")
    for title, table in (("config", card.config), ("training", card.training), ("fidelity", card.fidelity)):
        for key, value in table.items():
            click.echo(f"{title:10} {key} = {value}")


@click.command()
@click.argument("recipe")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of checkpoints.  [default: out/train/RECIPE]",
)
@click.option("--steps", type=click.IntRange(min=1), help="Fewer or more steps than the recipe's own.")
@click.option("--fresh", is_flag=True, help="Begin anew even if there is a checkpoint to resume from.")
def train(recipe: str, into: Path | None, steps: int | None, fresh: bool) -> None:
    """Train a shipped model again from its RECIPE (faces32 or digits). Interrupt and repeat to resume."""
    from flowprofile.cli.training import trained

    click.echo(trained(recipe, into=into or Path("out") / "train" / recipe, steps=steps, fresh=fresh))


@click.command()
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--into", type=click.Path(dir_okay=False, path_type=Path), help="The weights file.  [default: beside it]"
)
@click.option("--size", type=click.IntRange(min=1), default=64, show_default=True, help="Side of the image.")
@click.option(
    "--attributes",
    default="bangs,male,smile,lipstick",
    show_default=True,
    help="Names of the label's bits, in order.",
)
@click.option("--classes", type=click.IntRange(min=1), help="Labels are so many classes instead.")
@click.option(
    "--label-code", type=click.Choice(["decimal", "bits", "classes"]), help="How a label enters the network."
)
@click.option(
    "--heads",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Heads of attention; the weights do not say.",
)
def convert(
    checkpoint: Path,
    into: Path | None,
    size: int,
    attributes: str,
    classes: int | None,
    label_code: str | None,
    heads: int,
) -> None:
    """Make a weights file that can be profiled of CHECKPOINT, a pickle of the thesis' U-Net.

    It is opened in a process of its own that reads tensors and nothing else.
    """
    from flowprofile.models.conversion import convert as converted

    target = into or checkpoint.with_suffix(".safetensors")
    names = tuple(one.strip() for one in attributes.split(",") if one.strip())
    card = converted(
        checkpoint,
        target,
        size=size,
        attributes=names,
        classes=classes or 0,
        label_code=label_code,
        heads=heads,
    )
    click.echo(f"{target}: {'x'.join(map(str, card.shape))}, config {dict(card.config)}")
