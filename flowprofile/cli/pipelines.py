"""pipelines: the definitions that can be run by name."""

from pathlib import Path

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed
from flowprofile.definitions import find, folders, merged, names, parse
from flowprofile.errors import DefinitionError


@click.group()
def pipelines() -> None:
    """List, show and copy pipelines; print their schema."""


@pipelines.command(name="list")
@options.as_json
def list_(as_json: bool) -> None:
    """Every pipeline that can be run by name."""
    found = []
    for name in names("pipelines"):
        try:
            table = merged(find(name, kind="pipelines"))
        except DefinitionError as error:
            table = {"description": f"cannot be read: {error.evidence or error.fact}"}
        found.append(
            {"name": name, "model": str(table.get("model", "")), "description": table.get("description", "")}
        )
    if as_json:
        printed(found)
        return
    wide = max((len(row["name"]) for row in found), default=0)
    for row in found:
        click.echo(f"{row['name']:{wide}}  {row['model']:12} {row['description']}")


@pipelines.command()
@click.argument("pipeline", type=options.PipelineName())
def show(pipeline: str) -> None:
    """Print a definition."""
    click.echo(parse(find(pipeline, kind="pipelines"))[1].source, nl=False)


@pipelines.command()
@click.argument("pipeline", type=options.PipelineName())
@click.argument("target", type=click.Path(path_type=Path), required=False)
def copy(pipeline: str, target: Path | None) -> None:
    """Copy a definition to TARGET (by default pipelines/NAME.toml) to make it your own."""
    source = find(pipeline, kind="pipelines")
    path = target or folders("pipelines")[0] / f"{source.stem}.toml"
    if path.exists():
        raise DefinitionError(
            f"{str(path)!r} exists already.",
            consequence="It was left as it is.",
            remedy="name another target",
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(source.read_text("utf-8"), "utf-8")
    click.echo(f"{path}")


@pipelines.command()
def schema() -> None:
    """Print the JSON schema of a definition, with the parameters of every kind of stage."""
    from flowprofile.stages import schema as full

    printed(full())
