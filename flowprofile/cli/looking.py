"""app: look at a store in a browser."""

import re
from pathlib import Path
from typing import Final

import click

from flowprofile.cli import options
from flowprofile.errors import DefinitionError
from flowprofile.flow.budget import human

NAMED: Final = re.compile(r"([^=/\\]*)=(.*)")
"""A store behind its name; a path or an address may hold a "=" of its own, behind a slash."""


def _others(given: tuple[str, ...]) -> dict[str, str]:
    """Further stores by name: ``name=STORE``, or the store alone under its folder's name."""
    found: dict[str, str] = {}
    for text in given:
        named = NAMED.fullmatch(text)
        name, url = (named[1], named[2]) if named else (Path(text).name, text)
        if not name or not url:
            raise DefinitionError(
                f"--beside {text!r} gives no {'name' if url else 'store'}.",
                consequence="Compare speaks of a store by its name.",
                remedy="write --beside NAME=STORE",
            )
        if name in found:
            raise DefinitionError(
                f"Two stores are called {name!r}: {found[name]} and {url}.",
                consequence="Compare speaks of a store by its name, and would show one of them for both.",
                remedy="give each a name of its own: --beside NAME=STORE",
            )
        found[name] = url
    return found


@click.command()
@click.argument("store")
@click.option(
    "--beside", multiple=True, metavar="[NAME=]STORE", help="A further store, for Compare; may be repeated."
)
@click.option(
    "--allow-run", is_flag=True, help="Let the page start computations into STORE; callers need a token."
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8600, show_default=True, help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs --token.")
@click.option(
    "--token", help="What callers must know; 'new' makes one, and so does --allow-run where none is given."
)
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
@click.option(
    "--export",
    "into",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Instead, write a folder that opens without a server; the options below say what it holds.",
)
@click.option("--run", default="", help="Of this run.  [default: the first]")
@click.option(
    "--label", multiple=True, metavar="0110", help="Of this label; may be repeated.  [default: the first]"
)
@click.option("--seed", multiple=True, type=int, help="Of this seed; may be repeated.  [default: the first]")
@click.option(
    "--intervention", multiple=True, metavar="NAME",
    help="Of this intervention; may be repeated.  [default: the clean run and up to four]",
)  # fmt: skip
def app(
    store: str, beside: tuple[str, ...], allow_run: bool, port: int, host: str, token: str | None, no_open: bool,
    into: Path | None, run: str, label: tuple[str, ...], seed: tuple[int, ...], intervention: tuple[str, ...],
) -> None:  # fmt: skip
    """Look at STORE in a browser: samples, activations, attention, gradients, measures, comparisons, sweeps."""
    if into is not None and (allow_run or beside):
        raise click.UsageError("a folder of --export DIR computes nothing, and holds one store")
    if into is not None:
        _export(store, into, run, label, seed, intervention)
        return
    if run or label or seed or intervention:
        raise click.UsageError("--run, --label, --seed and --intervention say what --export DIR holds")
    from flowprofile.app.serving import serve

    serve(store, others=_others(beside), allow_run=allow_run, port=port, host=host, token=token, show=not no_open,
          say=lambda text: click.echo(text, err=True))  # fmt: skip


def _export(
    store: str,
    into: Path,
    run: str,
    label: tuple[str, ...],
    seed: tuple[int, ...],
    intervention: tuple[str, ...],
) -> None:
    from flowprofile.app.serving import needs_server

    needs_server()
    from flowprofile.app.exporting import export

    labels = [options.label_said(text) for text in label]
    found = export(store, into, run=run, labels=labels, seeds=seed, interventions=intervention,
                   say=lambda told: click.echo(told, err=True))  # fmt: skip
    click.echo(f"{into}: {found.cases} case(s), {found.files} files, {human(found.bytes)}")
    if found.left_out:
        click.echo(f"{found.left_out} intervention(s) are not in it; --intervention NAME names others.")
    click.echo(f"Open {into / 'index.html'} in a browser; no server is needed.")
