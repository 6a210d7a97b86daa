"""A researcher's own measures and stages, in a few lines.

What she writes is a function of labelled arrays. Caching, planning, resuming, storing and drawing come with it,
because the engine sees the same `Kind` as for ours. Her source is digested and recorded: a result computed by a
function that has changed since, under an unchanged version, is reported instead of being mixed with the old.
"""

import ast
import hashlib
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import CodeType, FunctionType
from typing import Any

import numpy as np
import xarray as xr
from pydantic import BaseModel, ConfigDict, create_model

from flowprofile.axes import CASE, TIME
from flowprofile.errors import DefinitionError
from flowprofile.flow.stage import Need
from flowprofile.flow.stage import Stage as Node
from flowprofile.kinds import Context, Kind, NoParams, Request
from flowprofile.sourcing import needs_chain
from flowprofile.store.promise import promise as promised

Function = Callable[..., Any]


@dataclass(frozen=True)
class Measure:
    """A function of states, made into a kind by `measure`. Calling it calls the function."""

    function: Function
    kind: Kind

    def __call__(self, *arrays: xr.DataArray, **params: Any) -> Any:
        """The function itself, for use outside a pipeline."""
        return self.function(*arrays, **params)


def measure(
    on: str = "trajectory", *, version: int = 1, halo: int = 0, unit: str = "1"
) -> Callable[[Function], Measure]:
    """Make a measure of a function of labelled states.

    The function gets a DataArray with dims (case, time, channel, y, x), reduces it to (case, time), and may
    take keyword-only parameters with defaults: they become the keys of its table in a definition.

    Parameters
    ----------
    on
        The stage whose first variable it reads.
    version
        Raise it whenever the function's meaning changes.
    halo
        How many earlier states each result needs; the first `halo` states of a block then have no result.
    unit
        Unit of the result, kept in its attributes.

    >>> @measure(on="trajectory", version=1)
    ... def brightness(x, *, scale: float = 1.0):
    ...     "Mean over pixels."
    ...     return scale * x.mean(["channel", "y", "x"])
    >>> brightness.kind.params().model_dump()
    {'scale': 1.0}
    """

    def made(function: Function) -> Measure:
        params = _params(function)
        name = f"{function.__module__}:{function.__name__}"

        def build(request: Request) -> list[Node]:
            return [_node(request, function, name=name, version=version, halo=halo, unit=unit)]

        kind = Kind(name, version, params, build, needs=(on,), elsewhere=True, summary=_first_line(function))
        return Measure(function, kind)

    return made


def _first_line(function: Function) -> str:
    return (inspect.getdoc(function) or "").partition("\n")[0]


def _node(request: Request, function: Function, *, name: str, version: int, halo: int, unit: str) -> Node:
    upstream = request.context.built[request.needs[0]]
    params = request.params.model_dump(mode="json")
    grid = request.context.grid
    if halo:
        needs_chain(
            request.context.real,
            f"{name!r} reads {halo} earlier state{'s' if halo > 1 else ''}",
            request.place,
            remedy="use a measure of single states",
        )
    first = _earliest(upstream, request.context) + halo

    def compute(block: xr.Dataset) -> xr.Dataset:
        states = block[next(iter(block.data_vars))]
        values = function(states.copy(), **request.params.model_dump())
        return _checked(values, states, name, halo)

    attrs = {"units": unit, "long_name": _first_line(function) or request.name}

    def promise(times: tuple[int, ...]) -> xr.Dataset:
        coords = upstream.promise(times).coords
        along = {str(key): values for key, values in coords.items() if values.dims == (TIME,)}
        return promised({"value": ((TIME,), "float32")}, along, variable_attrs={"value": attrs})

    return Node(
        name=request.name,
        kind=name,
        group=f"measures/{request.name}",
        version=version,
        params=params,
        needs=(Need(upstream.name, halo=halo),),
        times=tuple(t for t in upstream.times if grid.index(t) >= first),
        promise=promise,
        compute=compute,
        source=source_digest(function),
        attrs=attrs,
    )


def _earliest(node: Node, context: Context) -> int:
    """How many states of the grid must have passed before a stage has its first result."""
    before = [
        _earliest(context.built[need.stage], context) + need.halo
        for need in node.needs
        if need.view == "block"
    ]
    return max(before, default=0) + (1 if node.outputs else 0)


def _checked(values: object, states: xr.DataArray, name: str, halo: int) -> xr.Dataset:
    """The function's result as a dataset, or a refusal that says what shape was expected."""
    if isinstance(values, xr.DataArray) and set(values.dims) == {CASE, TIME}:
        expected = states[TIME].values[halo:]
        if np.array_equal(values[TIME].values, expected):
            result = values.transpose(CASE, TIME).astype(np.float32).to_dataset(name="value")
            return result.drop_vars([key for key in result.coords if key != TIME])
    got = f"dims {values.dims!r}" if isinstance(values, xr.DataArray) else type(values).__name__
    raise DefinitionError(
        f"The measure {name!r} must give a DataArray with dims (case, time), and gave {got}.",
        consequence="Its values could not be placed on the axes of the profile.",
        remedy='reduce the other dimensions by name, for instance x.mean(["channel", "y", "x"])',
        evidence=f"input dims {states.dims!r}, shape {states.shape!r}; the first {halo} states have no result",
    )


def _params(function: Function) -> type[BaseModel]:
    """The keyword-only arguments as a table of a definition."""
    fields: dict[str, Any] = {}
    for name, argument in inspect.signature(function, eval_str=True).parameters.items():
        if argument.kind is not inspect.Parameter.KEYWORD_ONLY:
            continue
        if name in ("use", "needs"):
            raise DefinitionError(
                f"The measure {function.__name__!r} has a parameter {name!r}.",
                consequence="In a definition that key says which kind a stage is and what it reads.",
                remedy="give the parameter another name",
            )
        annotation = Any if argument.annotation is inspect.Parameter.empty else argument.annotation
        fields[name] = (annotation, ... if argument.default is inspect.Parameter.empty else argument.default)
    config = ConfigDict(extra="forbid", frozen=True)
    return create_model(f"{function.__name__}Params", __config__=config, **fields)


@dataclass(frozen=True)
class Stage:
    """A stage of one's own, for results that are not one number per state.

    ``compute(*blocks, **params)`` maps blocks with dims (case, time, ...) to one such block and must be pure;
    ``promise(*upstream)`` maps the empty datasets it reads to the empty dataset it will produce, with dims
    (time, ...) and dtypes.
    """

    name: str
    """How reports call it."""
    needs: tuple[str, ...]
    """Stages it reads, block by block."""
    compute: Function
    promise: Callable[..., xr.Dataset]
    version: int = 1
    params: type[BaseModel] = NoParams
    """A pydantic model of its parameters."""
    attrs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kind(self) -> Kind:
        """The stage as the engine sees it."""
        name = f"{self.compute.__module__}:{self.name}"
        summary = _first_line(self.compute)
        return Kind(
            name, self.version, self.params, self._build, needs=self.needs, elsewhere=True, summary=summary
        )

    def _build(self, request: Request) -> list[Node]:
        upstream = [request.context.built[name] for name in request.needs]
        values = request.params.model_dump()

        def compute(*blocks: xr.Dataset) -> xr.Dataset:
            result = self.compute(*(block.copy(deep=True) for block in blocks), **values)
            return _dataset(result, self.name, "compute")

        def promise(times: tuple[int, ...]) -> xr.Dataset:
            expected = self.promise(*(node.promise(times) for node in upstream))
            return _dataset(expected, self.name, "promise")

        return [
            Node(
                name=request.name,
                kind=self.kind.name,
                group=request.name,
                version=self.version,
                params=request.params.model_dump(mode="json"),
                needs=tuple(Need(node.name) for node in upstream),
                times=tuple(t for t in upstream[0].times if all(t in node.times for node in upstream)),
                promise=promise,
                compute=compute,
                source=source_digest(self.compute),
                attrs=self.attrs,
            )
        ]


def _dataset(value: object, name: str, what: str) -> xr.Dataset:
    if not isinstance(value, xr.Dataset):
        raise DefinitionError(
            f"The {what} of stage {name!r} must give an xarray.Dataset, and gave a {type(value).__name__}.",
            consequence="Its results could not be placed on the axes of the profile.",
            remedy="return a Dataset with the dims (time, ...) in a promise and (case, time, ...) in a block",
        )
    return value


def source_digest(function: Function) -> str:
    """Digest of a function's code, and of the helpers and plain constants of its module that it names.

    Comments, docstrings and layout do not count. What lives in other modules, or inside objects that are neither
    functions nor numbers, strings, arrays and containers of them, is not looked at: raise the version for it.
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in sorted(_sources(function, set()), key=lambda item: item[0]):
        digest.update(f"{part[0]}\n{part[1]}\n".encode())
    return digest.hexdigest()


def _sources(function: Function, seen: set[str]) -> Iterator[tuple[str, str]]:
    plain = inspect.unwrap(function)
    if not isinstance(plain, FunctionType) or plain.__qualname__ in seen:
        return
    seen.add(plain.__qualname__)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(plain)))
    except (OSError, SyntaxError):
        yield plain.__qualname__, plain.__code__.co_code.hex() + repr(plain.__code__.co_consts)
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    yield plain.__qualname__, ast.dump(tree)
    for name in sorted(_names(plain.__code__)):
        other = plain.__globals__.get(name)
        other = other.function if isinstance(other, Measure) else other
        if isinstance(other, FunctionType) and other.__module__ == plain.__module__:
            yield from _sources(other, seen)
        elif isinstance(other, np.ndarray):
            yield name, f"{other.dtype}{other.shape}{other.tobytes().hex()}"
        elif isinstance(other, int | float | str | bytes | tuple | list | dict | frozenset):
            yield name, repr(sorted(other, key=repr) if isinstance(other, frozenset) else other)


def _names(code: CodeType) -> set[str]:
    """Every global name a function mentions, in its comprehensions, lambdas and inner functions too."""
    inner = [_names(constant) for constant in code.co_consts if isinstance(constant, CodeType)]
    return set(code.co_names).union(*inner)
