"""graph and diff: the pipeline as a drawing, and two pipelines side by side."""

from pathlib import Path
from typing import Any

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed


@click.command()
@options.pipeline
@options.into
@click.option(
    "--svg", type=click.Path(dir_okay=False, path_type=Path), help="Write the drawing to this file."
)
@options.as_json
def graph(
    pipeline: str,
    into: str | None,
    overrides: tuple[str, ...],
    allow_code: bool,
    svg: Path | None,
    as_json: bool,
) -> None:
    """Draw PIPELINE as a graph, each node cached, partial or missing in the store."""
    from flowprofile import sketch
    from flowprofile.running import assembled, project

    ready = assembled(pipeline, overrides=overrides, allow_code=allow_code)
    found = project(ready, options.store_of(into, pipeline)).plan
    if svg is not None:
        svg.parent.mkdir(parents=True, exist_ok=True)
        svg.write_text(sketch.svg(found), "utf-8")
        click.echo(str(svg), err=as_json)
    if as_json:
        states = sketch.states(found)
        printed({name: {"state": states[name], "key": found.graph.keys[name],
                        "needs": [need.stage for need in stage.needs]}
                 for name, stage in found.graph.stages.items()})  # fmt: skip
    elif svg is None:
        click.echo(sketch.text(found))


@click.command()
@click.argument("a", type=options.PipelineName())
@click.argument("b", type=options.PipelineName())
@click.option("--allow-code", is_flag=True, help='Allow use = "module:name" to import your code.')
@options.as_json
def diff(a: str, b: str, allow_code: bool, as_json: bool) -> None:
    """What B would compute anew in a store that A has filled."""
    from flowprofile.compared import compared
    from flowprofile.running import assembled

    one, two = assembled(a, allow_code=allow_code), assembled(b, allow_code=allow_code)
    rows: list[dict[str, Any]] = compared(one, two)
    if as_json:
        printed(rows)
        return
    for row in rows:
        click.echo(f"{row['stage']:20} {row['state']:12} {row['why']}")
