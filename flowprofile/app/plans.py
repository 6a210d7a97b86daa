"""What a definition from the page would do to the store, before it does it."""

from typing import Any

from flowprofile.app.requested import FORM
from flowprofile.assembly import Assembled, assemble
from flowprofile.cases import Case
from flowprofile.definitions import Pipeline, toml
from flowprofile.projecting import Projection, as_table, project
from flowprofile.steering import clean_part
from flowprofile.store.urls import Where


def planned(definition: Pipeline, into: Where) -> dict[str, Any]:
    """The plan in plain values: as `flowprofile plan --json` says it, with the definition as a file and where to look.

    `seconds` is None unless the rate of every stage that has work is known on this machine. `means` are forwards
    before those of the plan, of the clean runs whose means the sweep steers by.
    """
    ready = assemble(definition, FORM)
    projection = project(ready, into)
    table = as_table(projection)
    # As somebody would write it: without what is left at its default.
    written: dict[str, Any] = definition.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
    timed = all(name in projection.seconds for name in projection.plan.graph.stages)
    return {
        **table,
        "seconds": table["seconds"] if timed else None,
        "means": _means(ready, into),
        "cases": sum(len(batch.cases) for batch in projection.plan.batches),
        "definition": written,
        "toml": toml(written),
        "shows": _shows(projection),
    }


def _means(ready: Assembled, into: Where) -> int:
    first = clean_part(ready)
    return 0 if first is None else project(assemble(first, FORM), into).plan.forwards


def _shows(projection: Projection) -> dict[str, Any]:
    """A case that the run makes, changed ones first; one that is stored already where it makes none."""
    sweep, ready = projection.assembled.sweep, projection.assembled
    made = [case for batch in projection.plan.batches for case in batch.cases]
    changed = [case for case in made if not case.clean]
    case: Case = (changed or made or [Case(sweep.seeds[0], sweep.labels[0])])[0]
    return {"run": ready.run, "seed": case.seed, "label": case.label, "intervention": case.intervention}
