"""The pipeline drawn: as text for a terminal, as SVG for a page; every node says what is cached.

The drawing is of the graph that would be computed, not of the file: nulls and the unstored chains are in it,
because they explain where a curve comes from.
"""

from collections.abc import Mapping
from html import escape
from typing import Final, Literal

from flowprofile.flow.graph import Graph
from flowprofile.flow.plan import Plan
from flowprofile.flow.stage import ENDS

State = Literal["cached", "partial", "missing", "in flight"]

MARKS: Final[Mapping[State, str]] = {"cached": "●", "partial": "◐", "missing": "○", "in flight": "·"}
FILLS: Final[Mapping[State, str]] = {
    "cached": "#d5e8d4",
    "partial": "#fff2cc",
    "missing": "#f5f5f5",
    "in flight": "#ffffff",
}
WIDTH, HEIGHT, GAP_X, GAP_Y = 190, 46, 60, 22


def states(plan: Plan) -> dict[str, State]:
    """Each node's state."""
    found: dict[str, State] = {}
    for name, stage in plan.graph.stages.items():
        if not stage.stored:
            found[name] = "in flight"
        else:
            found[name] = plan.shares[name].state  # type: ignore[assignment]
    return found


def text(plan: Plan) -> str:
    """One line per node, under the node it takes its blocks from."""
    graph, state = plan.graph, states(plan)
    lines = ["noise  z(seed, t), a function: not stored"]
    roots = [name for name in graph.stages if not _parents(graph, name)]

    def draw(name: str, indent: str, last: bool) -> None:
        stage = graph.stages[name]
        finals = [need.stage for need in stage.needs if need.view in ENDS]
        waits = f"  (waits for the end of {', '.join(finals)})" if finals else ""
        key = graph.keys[name][:10]
        lines.append(
            f"{indent}{'└─' if last else '├─'} {MARKS[state[name]]} {name}  {state[name]}  @{key}{waits}"
        )
        children = [other for other in graph.stages if name in _parents(graph, other)]
        for child in children:
            draw(child, indent + ("   " if last else "│  "), child == children[-1])

    for root in roots:
        draw(root, "", root == roots[-1])
    return "\n".join(lines)


def _parents(graph: Graph, name: str) -> list[str]:
    """Where a node hangs in the tree: the stage whose blocks it reads, or whose end it waits for."""
    needs = graph.stages[name].needs
    blocks = [need.stage for need in needs if need.view == "block"]
    return blocks[:1] or [need.stage for need in needs][:1]


def svg(plan: Plan) -> str:
    """The graph as a standalone picture, generation running from left to right."""
    graph, state = plan.graph, states(plan)
    depth: dict[str, int] = {}
    for name, stage in graph.stages.items():
        depth[name] = 1 + max((depth[need.stage] for need in stage.needs), default=0)
    columns: dict[int, list[str]] = {0: ["noise"]}
    for name, column in depth.items():
        columns.setdefault(column, []).append(name)
    place = {
        name: (20 + column * (WIDTH + GAP_X), 20 + row * (HEIGHT + GAP_Y))
        for column, members in columns.items()
        for row, name in enumerate(members)
    }
    width = 20 + len(columns) * (WIDTH + GAP_X)
    height = 40 + max(len(members) for members in columns.values()) * (HEIGHT + GAP_Y)
    edges = [("noise", name, "block") for name, stage in graph.stages.items() if stage.chain is not None]
    edges += [(need.stage, name, need.view) for name, stage in graph.stages.items() for need in stage.needs]
    parts = [_edge(place[a], place[b], dashed=view == "final") for a, b, view in edges]
    parts += [_node(name, place[name], state.get(name, "in flight"), graph) for name in place]
    style = "text{font:13px system-ui,sans-serif;fill:#222}.s{font-size:11px;fill:#666}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        f'viewBox="0 0 {width} {height}"><style>{style}</style>{"".join(parts)}</svg>\n'
    )


def _edge(start: tuple[int, int], end: tuple[int, int], *, dashed: bool) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0], end[1] + HEIGHT // 2
    bend = (x2 - x1) // 2
    dash = ' stroke-dasharray="5 4"' if dashed else ""
    path = f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"
    return f'<path d="{path}" fill="none" stroke="#999" stroke-width="1.4"{dash}/>'


def _node(name: str, at: tuple[int, int], state: State, graph: Graph) -> str:
    x, y = at
    detail = "z(seed, t): not stored" if name == "noise" else f"{state} · @{graph.keys[name][:10]}"
    dash = ' stroke-dasharray="4 3"' if state == "in flight" else ""
    return (
        f"<g><title>{escape(name)}: {state}</title>"
        f'<rect x="{x}" y="{y}" width="{WIDTH}" height="{HEIGHT}" rx="7" fill="{FILLS[state]}" stroke="#777"{dash}/>'
        f'<text x="{x + 12}" y="{y + 20}">{escape(name)}</text>'
        f'<text class="s" x="{x + 12}" y="{y + 36}">{escape(detail)}</text></g>'
    )
