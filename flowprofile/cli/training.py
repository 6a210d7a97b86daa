"""The training of a shipped model, with its progress on the terminal."""

from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from flowprofile.models import training


def trained(recipe: str, *, into: Path, steps: int | None, fresh: bool) -> str:
    """Train and say where the weights are."""
    training.named(recipe)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task(recipe, total=None)

        def listen(progress: training.Progress) -> None:
            bar.update(
                row, completed=progress.step, total=progress.steps, description=f"loss {progress.loss:.4f}"
            )

        path = training.train(recipe, into=into, listen=listen, steps=steps, resume=not fresh)
    return f"{path}"
