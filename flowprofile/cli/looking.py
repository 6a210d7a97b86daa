"""app: look at a store in a browser."""

from pathlib import Path

import click


def _others(given: tuple[str, ...]) -> dict[str, str]:
    """Further stores by name: ``name=STORE``, or the store alone under its folder's name."""
    found: dict[str, str] = {}
    for text in given:
        name, equals, url = text.partition("=")
        found[name if equals else Path(text).name] = url if equals else text
    return found


@click.command()
@click.argument("store")
@click.option(
    "--beside", multiple=True, metavar="[NAME=]STORE", help="A further store, for Compare; may be repeated."
)
@click.option("--allow-run", is_flag=True, help="Let the page start computations into STORE.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8600, show_default=True, help="0 takes a free one."
)
@click.option("--host", default="127.0.0.1", show_default=True, help="Another address needs --token.")
@click.option("--token", default="", help="What callers must know; 'new' makes one.")
@click.option("--no-open", is_flag=True, help="Do not open a browser.")
def app(
    store: str, beside: tuple[str, ...], allow_run: bool, port: int, host: str, token: str, no_open: bool
) -> None:
    """Look at STORE in a browser: samples, activations, attention, gradients, measures, comparisons, sweeps."""
    from flowprofile.app.serving import serve

    serve(store, others=_others(beside), allow_run=allow_run, port=port, host=host, token=token, show=not no_open,
          say=lambda text: click.echo(text, err=True))  # fmt: skip
