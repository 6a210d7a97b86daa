"""stats: what can be said of one stored measure, with intervals."""

import re
from typing import TYPE_CHECKING

import click

from flowprofile.cli import options
from flowprofile.cli.main import printed
from flowprofile.cli.tables import as_values, interval, number, shown, state, table

if TYPE_CHECKING:
    import xarray as xr

SHOWN = 11
"""States in the table of a curve."""
CLAIMS = 12
"""Layers and states in the table of a family."""


@click.command()
@click.argument("store", metavar="STORE")
@click.argument("measure", metavar="MEASURE")
@click.option("--of", "title", metavar="TITLE", help="Runs of this intervention.  [default: the clean ones]")
@click.option("--layer", help="Of a measure that has several.")
@click.option("--label", type=int, help="Of these samples.  [default: all labels, averaged seed by seed]")
@click.option("--margin", type=options.Finite(min=0, min_open=True),
              help="Look for a plateau: how much a curve may change in 100 t and stand still.")  # fmt: skip
@click.option("--window", type=click.IntRange(min=1), default=100, show_default=True,
              help="Width in t of the windows of plateaus and dips.")  # fmt: skip
@click.option("--switches", is_flag=False, flag_value="", metavar="[TITLE]",
              help="Say from which switch of the label on the picture no longer changes.")  # fmt: skip
@click.option("--level", type=options.Finite(0, 1, min_open=True, max_open=True), default=0.05, show_default=True,
              help="How much of a change counts as none.")  # fmt: skip
@click.option("--between", metavar="A,B", help="Say at which layers and states these two labels differ.")
@click.option("--alpha", default=0.05, show_default=True, help="Probability of error.")
@click.option("--run", metavar="NAME", help="Of a store that holds several runs.")
@options.as_json
def stats(
    store: str,
    measure: str,
    title: str | None,
    layer: str | None,
    label: int | None,
    margin: float | None,
    window: int,
    switches: str | None,
    level: float,
    between: str | None,
    alpha: float,
    run: str | None,
    as_json: bool,
) -> None:
    """What can be said of MEASURE in STORE, as means over seeds with intervals.

    Over time: the mean, its null, the excess, where it bends, stands still, and lies below its null. With --switches:
    from when on the outcome is settled. With --between: at which layers and states two labels differ, all tested
    together.
    """
    from flowprofile import estimates, opening
    from flowprofile.cases import CLEAN

    tree = opening.open(store, run=run)
    node = estimates.measure_of(tree, measure)
    if switches is not None and between is not None:
        raise click.UsageError("--switches and --between ask two different questions; ask one at a time")
    alone = {"--layer": layer, "--margin": margin}
    alone |= {"--of": title} if switches is not None else {"--label": label}
    unused = [name for name, given in alone.items() if given is not None]
    if (switches is not None or between is not None) and unused:
        raise click.UsageError(f"{unused[0]} says nothing to this question; leave it out")
    if switches is not None:
        found = estimates.settled(node, done=switches or None, label=label, level=level, alpha=alpha)
        show = _switches
    elif between is not None:
        found, show = estimates.by_layer(node, _labels(between), title=title or CLEAN), _layers
    else:
        found = estimates.over_time(
            node,
            title=title or CLEAN,
            layer=layer,
            label=label,
            alpha=alpha,
            window=window,
            margin=margin,
        )
        show = _curve
    if as_json:
        printed(as_values(found))
        return
    click.secho(f"{measure}: {found.attrs['n']} seeds", bold=True)
    show(found, alpha)


def _labels(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"\s*(?:label=)?(\d+)\s*,\s*(?:label=)?(\d+)\s*", text)
    if match is None:
        raise click.UsageError(f"--between {text!r} does not name two labels; write for instance 6,7")
    return int(match[1]), int(match[2])


def _curve(found: "xr.Dataset", alpha: float) -> None:
    level, null = f"{100 * (1 - alpha):g} %", "null" in found
    made = table("t", "mean", level, *(("null", "excess", level) if null else ()))
    count = found.sizes["time"]
    for at in sorted({round(k * (count - 1) / (SHOWN - 1)) for k in range(SHOWN)}):
        one = found.isel(time=at)
        cells = [str(int(one["time"])), number(one["value"]), interval(one["lower"], one["upper"])]
        if null:
            cells += [number(one["null"]), number(one["excess"])]
            cells.append(interval(one["excess_lower"], one["excess_upper"]))
        made.add_row(*cells)
    shown(made)
    if count > SHOWN:
        click.echo(f"{SHOWN} of {count} states are shown; --json has all")
    if not found.attrs["windows"]:
        click.echo(
            "no bend, plateau or dip was looked for: states are unevenly spaced, or span fewer than"
            f" {found.attrs['window']} t"
        )
        return
    click.echo(
        f"bends most at t = {state(found['kink'])} (explains {float(found['kink_gain']):.0%} of what a line leaves)"
    )
    if _there(found["plateau_first"]):
        click.echo(
            f"stands still from t = {state(found['plateau_first'])} to {state(found['plateau_last'])}: every window of it has"
            f" p <= {alpha:g} by itself (equivalence of slopes); for having looked at all windows p ="
            f" {float(found['plateau_p']):.3g}"
        )
    elif _there(found["plateau_p"]):
        click.echo("nowhere surely standing still within the margin")
    if null:
        said = "nowhere surely below its null"
        if _there(found["dip_first"]):
            said = (
                f"below its null from t = {state(found['dip_first'])} to {state(found['dip_last'])}"
                f" by {-float(found['dip']):.4f} on average"
            )
        click.echo(f"{said} (all windows of {found.attrs['window']} t looked at, corrected for that)")


def _switches(found: "xr.Dataset", alpha: float) -> None:
    made = table("switched at t", "changed", f"{100 * (1 - alpha):g} %")
    for at in range(found.sizes["switch"]):
        one = found.isel(switch=at)
        made.add_row(str(int(one["switch"])), number(one["changed"]), interval(one["lower"], one["upper"]))
    shown(made)
    if not _there(found["estimate"]):
        click.echo(f"not settled by the last switch: more than {found.attrs['level']:g} still changes there")
        return
    claim = "" if found.attrs["claimed"] else "; that it ever is settled is not shown by so many seeds"
    flat = " The curve is flat about that level, so the answer hangs on it." if found["flat"].item() else ""
    click.echo(
        f"settled (at most {found.attrs['level']:g} changed) from t = {state(found['estimate'])} on, not before"
        f" {state(found['first'])}, surely from {state(found['last'])} on{claim}.{flat}"
    )


def _layers(found: "xr.Dataset", alpha: float) -> None:
    clear = found["p_familywise"] <= alpha
    listed = found["q"] <= alpha
    cells = clear.size
    click.echo(
        f"labels {found.attrs['between'][0]} and {found.attrs['between'][1]} differ at {int(clear.sum())} of {cells} layers x"
        f" states (family-wise {alpha:g}); {int(listed.sum())} with at most {alpha:.0%} false among them"
    )
    order = (
        found["p_familywise"]
        .stack(cell=("layer", "time"))
        .sortby(abs(found["effect"]).stack(cell=("layer", "time")), ascending=False)
    )
    made = table("layer", "t", "difference", "effect", "p family-wise", "q")
    for name, t in order["cell"].values[:CLAIMS]:
        one = found.sel(layer=name, time=t)
        made.add_row(str(name), str(int(t)), f"{float(one['difference']):.4g}", f"{float(one['effect']):+.2f}",
                      f"{float(one['p_familywise']):.3g}", f"{float(one['q']):.3g}")  # fmt: skip
    shown(made)


def _there(value: "xr.DataArray") -> bool:
    return bool(value == value)
