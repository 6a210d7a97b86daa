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
@click.argument("recipe", required=False)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    help="Folder of checkpoints.  [default: out/train/NAME]",
)
@click.option("--steps", type=click.IntRange(min=1), help="Fewer or more steps than the recipe's own.")
@click.option(
    "--fresh",
    is_flag=True,
    help="Begin anew, whatever is there: a checkpoint to resume from, or a finished model.",
)
@click.option(
    "--images",
    type=click.Path(path_type=Path),
    help="Instead of a RECIPE: a folder in CelebA's layout, img_align_celeba/*.jpg and list_attr_celeba.txt.",
)
@click.option(
    "--attributes", help="With --images: names of the label's bits, in order, as the table has them."
)
@click.option("--size", type=click.IntRange(min=2, max=1024), help="With --images: side.  [default: 32]")
@click.option("--name", help="With --images: what the model is called.  [default: FOLDER-SIZE]")
@click.option("--dim", type=click.IntRange(min=6), help="With --images: width of the first level.")
@click.option("--mults", help="With --images: widths of the levels as multiples of it.  [default: 1,2,4]")
def train(
    recipe: str | None,
    into: Path | None,
    steps: int | None,
    fresh: bool,
    images: Path | None,
    attributes: str | None,
    size: int | None,
    name: str | None,
    dim: int | None,
    mults: str | None,
) -> None:
    """Train a shipped model again from its RECIPE (faces32 or digits), or one of your own pictures (--images).

    Interrupt and repeat to resume. What another recipe made is not replaced without --fresh.
    """
    from flowprofile.cli.training import on_pictures, trained

    if (recipe is None) == (images is None):
        raise click.UsageError("Give either a RECIPE (faces32 or digits) or --images FOLDER.")
    if images is None:
        belong = {"attributes": attributes, "size": size, "name": name, "dim": dim, "mults": mults}
        stray = next((option for option, value in belong.items() if value is not None), None)
        if stray is not None:
            raise click.UsageError(f"--{stray} belongs to --images; a recipe decides it itself.")
        assert recipe is not None
        click.echo(trained(recipe, into=into or Path("out") / "train" / recipe, steps=steps, fresh=fresh))
        return
    if attributes is None:
        raise click.UsageError(
            "--images needs --attributes, for instance --attributes Bangs,Male,Smiling,Wearing_Lipstick."
        )
    click.echo(
        on_pictures(
            images,
            attributes,
            into=into,
            size=size or 32,
            name=name,
            steps=steps,
            fresh=fresh,
            dim=dim,
            mults=mults,
        )
    )


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

    target = into if into is not None else checkpoint.with_suffix(".safetensors")
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
