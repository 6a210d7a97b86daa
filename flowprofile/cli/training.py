"""The training of a model, with its progress on the terminal."""

from pathlib import Path

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowprofile.models import training
from flowprofile.models.training import Recipe, Source


def trained(
    recipe: str | Recipe, *, into: Path, steps: int | None, fresh: bool, data: Source | None = None
) -> str:
    """Train and say where the weights are."""
    found = training.named(recipe) if isinstance(recipe, str) else recipe
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:

        def listen(progress: training.Progress) -> None:
            row = bar.task_ids[0] if bar.task_ids else bar.add_task(found.name)
            bar.update(
                row, completed=progress.step, total=progress.steps, description=f"loss {progress.loss:.4f}"
            )

        path = training.train(found, into=into, listen=listen, steps=steps, resume=not fresh, data=data)
    if not bar.task_ids:
        click.echo(f"{path} is finished: nothing to train. --fresh begins anew.", err=True)
    return f"{path}"


def on_pictures(
    images: Path,
    attributes: str,
    *,
    into: Path | None,
    size: int,
    name: str | None,
    steps: int | None,
    fresh: bool,
    dim: int | None,
    mults: str | None,
) -> str:
    """Train a model of a folder's pictures and say how it is used."""
    from flowprofile.models.pictured import pictured

    recipe, data = pictured(
        images,
        [one.strip() for one in attributes.split(",") if one.strip()],
        size=size,
        name=name,
        steps=steps,
        dim=dim,
        mults=None if mults is None else _numbers(mults),
    )
    target = into or Path("out") / "train" / recipe.name
    path = trained(recipe, into=target, steps=None, fresh=fresh, data=data)
    return f"{path}\nflowprofile run first-profile --set model={path} --set cases.labels=[0] --into out/{recipe.name}"


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts):
        raise click.BadParameter("give numbers such as 1,2,4", param_hint="'--mults'")
    return tuple(int(part) for part in parts)
