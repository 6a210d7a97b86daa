"""adopt: caches of activations that other programs collected."""

import re
from pathlib import Path

import click

from flowprofile.cli import options


@click.command()
@click.argument("cache", metavar="CACHE", type=click.Path(exists=True, path_type=Path))
@click.option("--into", required=True, metavar="STORE", help="The store that gets it, as a run of its own.")
@click.option(
    "--prompts", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A line of text per case."
)
@click.option("--seeds", type=options.SeedRange(), metavar="0:100", help="The noise seeds of the cases.")
@click.option("--grid", metavar="16x24", help="Rows and columns that tokens fill.  [default: a square]")
@click.option(
    "--timesteps", metavar="981,961,...", help="What the network was told, if the files do not say."
)
@click.option("--dims", metavar='"case time token channel"', help="Axes of safetensors tensors.")
@click.option("--name", help="What the run is called.  [default: the cache's name]")
@click.option("--layout", help="How a new store is laid out.")
def adopt(
    cache: Path,
    into: str,
    prompts: Path | None,
    seeds: tuple[int, ...] | None,
    grid: str | None,
    timesteps: str | None,
    dims: str | None,
    name: str | None,
    layout: str | None,
) -> None:
    """Read CACHE, activations that another program collected, into STORE.

    CACHE is a folder of data sets that Hugging Face's `datasets` saved (as SAeUron does: a folder per layer, columns
    `activations` and `timestep`), a safetensors file, or a folder of those. Repeating it writes nothing that is there.
    """
    from flowprofile.adopting.verb import adopt as adopted

    found = adopted(
        cache,
        into,
        prompts=None if prompts is None else prompts.read_text("utf-8").splitlines(),
        seeds=seeds,
        grid=_grid(grid),
        timesteps=_numbers(timesteps),
        dims=None if dims is None else dims.replace(",", " ").split(),
        name=name,
        layout=layout,
    )
    click.echo(
        f"{into}: {found.run}, {len(found.layers)} layers of {found.cases:,} cases;"
        f" {found.regions:,} regions written."
    )


def _grid(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)x(\d+)", text.strip())
    if match is None:
        raise click.BadParameter(f"{text!r} is no grid; write for instance 16x24", param_hint="--grid")
    return int(match[1]), int(match[2])


def _numbers(text: str | None) -> list[int] | None:
    if text is None:
        return None
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter(
            f"{text!r} is no list of numbers; write for instance 981,961,941", param_hint="--timesteps"
        )
    return [int(part) for part in parts]
