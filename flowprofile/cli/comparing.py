"""compare: two conditions over time, and from which state on they differ."""

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed
from flowprofile.cli.tables import as_values, interval, number, state, table

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table

SHOWN = 11
"""States in the table of the curves."""


@click.command()
@click.argument("store", metavar="STORE")
@click.argument("other", metavar="[OTHER]", required=False)
@click.option(
    "--between",
    metavar="A,B",
    help='Two values of one axis, "label=6,label=7" or "intervention=none,intervention=NAME"; "labels": all pairs.',
)
@click.option(
    "--measure",
    default="ssim",
    show_default=True,
    metavar="NAME",
    help="A stored measure, or ssim, mse or l1.",
)
@click.option("--excess", is_flag=True, help="Claim the excess over the null instead of the value.")
@click.option(
    "--delta",
    "deltas",
    multiple=True,
    metavar="D[,D...]",
    help="Thresholds of the onset.  [default: .05,.1,.2]",
)
@click.option("--alpha", default=0.05, show_default=True, help="Probability of error of an interval.")
@click.option("--family", type=click.Choice(["pairs"]), help="Let alpha hold for all pairs together.")
@click.option(
    "--label",
    "labels",
    metavar="L,L",
    help="Labels to average (interventions, stores) or to pair.  [default: all]",
)
@click.option("--intervention", help="Under which labels or stores are compared.  [default: none]")
@click.option("--seeds", type=options.SeedRange(), metavar="0:100", help="These seeds.  [default: all]")
@click.option(
    "--time", "states", metavar="A:B", help="States from A down to B, such as 1000:100, or these: 900,600."
)
@click.option("--layer", help="Of a measure that has several.")
@click.option("--window", type=int, help="Of an SSIM that is computed here, or of several stored ones.")
@click.option("--run", "runs", multiple=True, metavar="NAME", help="Of stores that hold several runs.")
@click.option(
    "--cluster", metavar="WHO", help="Who adds the curves up: processes:N, local:N, an address, a name."
)
@click.option("--figure", type=click.Path(dir_okay=False, path_type=Path), help="Draw it to this PNG.")
@options.as_json
def compare(
    store: str,
    other: str | None,
    between: str | None,
    measure: str,
    excess: bool,
    deltas: tuple[str, ...],
    alpha: float,
    family: Literal["pairs"] | None,
    labels: str | None,
    intervention: str | None,
    seeds: tuple[int, ...] | None,
    states: str | None,
    layer: str | None,
    window: int | None,
    runs: tuple[str, ...],
    cluster: str | None,
    figure: Path | None,
    as_json: bool,
) -> None:
    """How different two conditions of STORE are over time, seed by seed, and from which state on.

    With OTHER, two stores are compared, paired by seed. What is stored is read, what can be computed from stored
    states is; no network is asked. The result is kept beside the profile.
    """
    if figure is not None and figure.suffix.lower() != ".png":
        raise click.UsageError(
            f"--figure {str(figure)!r} is to be a PNG; name it {figure.stem or 'figure'}.png"
        )
    from flowprofile.comparing import compare as compared
    from flowprofile.comparing.verb import DELTAS

    found = compared(
        store,
        other,
        between=_between(between),
        measure=measure,
        excess=excess,
        delta=_deltas(deltas) or DELTAS,
        alpha=alpha,
        family=family,
        label=None if labels is None else [options.label_said(text) for text in labels.split(",")],
        intervention=intervention,
        seed=None if seeds is None else list(seeds),
        time=_states(states),
        layer=layer,
        window=window,
        run=runs[0] if len(runs) == 1 else runs or None,
        cluster=cluster,
    )
    if as_json:
        printed(as_values(found))
    else:
        _show(found)
    if figure is not None:
        _draw(found, figure)
        click.echo(str(figure), err=as_json)


def _between(text: str | None) -> Any:
    """``label=6,label=7`` as ``{"label": (6, 7)}``; names of interventions may hold commas and equal signs."""
    if text is None or "=" not in text:
        return text
    parts = [part.partition("=") for part in re.split(r",(?=(?:label|intervention)=)", text)]
    axes = {axis.strip() for axis, _, _ in parts}
    if len(parts) != 2 or len(axes) != 1:
        raise click.UsageError(
            f"--between {text!r} does not name two values of one axis; write for instance label=6,label=7"
        )
    axis = axes.pop()
    return {axis: tuple(options.label_said(value) if axis == "label" else value for _, _, value in parts)}


def _deltas(texts: tuple[str, ...]) -> list[float]:
    try:
        return [float(part) for text in texts for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"--delta {','.join(texts)!r} holds what is no number") from None


def _states(text: str | None) -> Any:
    """``1000:100`` as a slice in the order of generation, ``500,400`` as a list."""
    if text is None:
        return None
    match = re.fullmatch(r"\s*(\d*)\s*:\s*(\d*)\s*", text)
    if match is not None:
        return slice(*(int(number) if number else None for number in match.groups()))
    if all(part.strip().isdecimal() for part in text.split(",")):
        return [int(part) for part in text.split(",")]
    raise click.UsageError(f"--time {text!r} names no states; write for instance 1000:100")


def _show(found: "xr.Dataset") -> None:
    from rich.console import Console

    console = Console()
    seeds = int(found["n"].values.flat[0])
    console.print(f"{found.attrs['between']}: {found.attrs['quantity']}, {seeds} seeds", style="bold",
                  highlight=False)  # fmt: skip
    console.print(f"from {found.attrs['source']}", style="dim", highlight=False)
    if "pair" in found.dims:
        console.print(_pairs(found))
    else:
        console.print(_curves(found))
        console.print(_onsets(found))
    for note in _notes(found):
        console.print(f"note: {note}", style="yellow", highlight=False)


def _curves(found: "xr.Dataset") -> "Table":
    """A few states of the curves."""
    level = f"{100 * (1 - found.attrs['alpha']):g} % of the {found.attrs['claimed']}"
    made = table("t", "value", "null", "excess", level)
    count = found.sizes["time"]
    for at in sorted({round(k * (count - 1) / (SHOWN - 1)) for k in range(SHOWN)}):
        one = found.isel(time=at)
        cells = [number(float(one[name])) for name in ("value", "null", "excess")]
        made.add_row(str(int(one["time"])), *cells, interval(float(one["lower"]), float(one["upper"])))
    return made


def _onsets(found: "xr.Dataset") -> "Table":
    """The onset for each threshold, in the order of generation: the earliest state first."""
    made = table("above", "onset at t", "not before .. not after", "claimed", "null's onset")
    for at in range(found.sizes["delta"]):
        one = found.isel(delta=at)
        made.add_row(f"{float(one['delta']):g}", *_onset(one), state(float(one["null_onset"])))
    return made


def _pairs(found: "xr.Dataset") -> "Table":
    """A row per pair: where it is most different, and the onset above the first threshold."""
    delta = float(found["delta"].values[0])
    claimed = str(found.attrs["claimed"])
    made = table(
        "labels", f"largest {claimed}", "at t", f"onset above {delta:g}", "not before .. not after", "claimed"
    )
    for at in range(found.sizes["pair"]):
        one = found.isel(pair=at)
        peak = one[claimed].isel(time=int(one[claimed].values.argmax()))
        names = f"{int(one['label'])}, {int(one['other_label'])}"
        made.add_row(names, number(float(peak)), str(int(peak["time"])), *_onset(one.isel(delta=0)))
    return made


def _onset(one: "xr.Dataset") -> tuple[str, str, str]:
    upper, lower = state(float(one["onset_upper"])), state(float(one["onset_lower"]))
    return state(float(one["onset"])), f"{upper} .. {lower}", "yes" if one["claimed"].item() else "no"


def _notes(found: "xr.Dataset") -> list[str]:
    notes = []
    if found.attrs["claimed"] == "excess" and 0 in found["time"].values:
        notes.append(
            "the null ends in the same images, so the excess is 0 at t = 0 and no onset can be claimed there; "
            "leave the end out, for instance --time 1000:100"
        )
    if "left_out" in found.attrs:
        notes.append(f"left out are {found.attrs['left_out']}")
    if "not_kept" in found.attrs:
        notes.append(f"the result could not be kept beside the profile ({found.attrs['not_kept']})")
    return notes


def _draw(found: "xr.Dataset", path: Path) -> None:
    from flowprofile.comparison_figures import comparison
    from flowprofile.figures import save

    save(comparison(found), path, stamp=str(found.attrs["recipe"]))
