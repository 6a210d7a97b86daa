"""Tables of numbers on a terminal, and the same as plain values; what does not exist is a dash, and null in JSON."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import xarray as xr
    from rich.table import Table


def table(*headings: str) -> "Table":
    """An empty table, its columns flush right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False)
    for heading in headings:
        made.add_column(heading, justify="right")
    return made


def shown(made: "Table") -> None:
    """Print a table."""
    from rich.console import Console

    Console().print(made)


def number(value: Any) -> str:
    """Four decimals."""
    found = float(value)
    return "-" if found != found else f"{found:.4f}"


def interval(lower: Any, upper: Any) -> str:
    """Both ends of one."""
    return f"{number(lower)} .. {number(upper)}"


def state(t: Any) -> str:
    """A state t."""
    found = float(t)
    return "-" if found != found else f"{found:.0f}"


def as_values(found: "xr.Dataset") -> dict[str, Any]:
    """A dataset as JSON values."""
    names = [*found.coords, *found.data_vars]
    values = {str(name): _plain(found[name].values.tolist()) for name in names}
    return {"attributes": dict(found.attrs), "dims": {str(k): n for k, n in found.sizes.items()}, **values}


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and value != value else value
