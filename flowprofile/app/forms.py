"""Every setting of a definition as a form, made from the definition's own schema.

What a setting is called, what it means and what it may be stands once, at the table that it belongs to; a new kind of
stage has a form as soon as it has parameters.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from flowprofile.app.requested import models_of
from flowprofile.definitions import Pipeline
from flowprofile.errors import DefinitionError, nearest
from flowprofile.models import regions, zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.sites import sites
from flowprofile.running import recorded, stored_runs
from flowprofile.stages import KINDS
from flowprofile.store.urls import Where
from flowprofile.time.rules import RULES

Schema = Mapping[str, Any]

ENTRIES: Final[Mapping[str, str]] = {
    "seeds": "seeds",
    "labels": "labels",
    "plus": "labels",
    "minus": "labels",
    "label": "label",
    "layers": "layers",
    "layer": "layers",
    "keep": "keep",
    "mask": "mask",
    "look": "mask",
    "flip": "attributes",
}
"""Settings that a person enters in their own way, by name: a label as checkboxes, a mask as a drawing."""
ELSEWHERE: Final = ("NoiseFile",)
"""Tables that name a file, which a page may not."""
LEFT_OUT: Final = ("options", "kind", "from")
"""Settings that are no field: a table of anything, and what says which table it is."""
INTERVENTIONS: Final = ("Ablate", "SwitchTo", "PatchFrom", "SteerBy")
"""The tables of interventions, one part each."""


def form(store: Where, model: str | None = None) -> dict[str, Any]:
    """The form for a store, as one plain value: what was asked of it last, and every setting that can be added.

    Parameters
    ----------
    store
        Where it is.
    model
        Whose labels and layers are offered; by default the one that the store was filled by last.

    Raises
    ------
    StoreError
        For a store that holds no definition, or that a live model filled.
    DefinitionError
        For a model that is neither the store's nor shipped.
    """
    recorded(store)
    base = [table for attrs in stored_runs(store).values() for table in attrs.get("definitions", [])][-1]
    models, chosen = models_of(store), model or str(base["model"])
    if chosen not in models:
        raise DefinitionError(
            f"The model {chosen!r} is not one that can be run from the page.", remedy=nearest(chosen, models)
        )
    schema = Pipeline.model_json_schema()
    return {
        "base": base,
        "model": _about(chosen),
        "groups": [*_groups(schema, models)],
        "stages": {
            "title": "Stages",
            "help": "what is computed and stored",
            "kinds": [*_stages()],
        },
        "interventions": {
            "title": "Interventions",
            "help": "what is done to the model; each is compared with the run without it",
            "kinds": [*_interventions(schema["$defs"])],
        },
    }


def _about(name: str) -> dict[str, Any]:
    """What can be chosen of a model."""
    card: ModelCard = zoo.card(name)
    named = regions.regions(card.name) if card.name in regions.MODELS else ()
    return {
        "name": name,
        "shape": list(card.shape),
        "steps": card.steps,
        "labels": card.labels.table(),
        "regions": list(named),
        "layers": [
            {"name": layer, "channels": site.channels, "y": site.y, "x": site.x, "listed": site.listed}
            for layer, site in sites(card, name).items()
        ],
    }


def _groups(schema: Schema, models: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    tables, properties = schema["$defs"], schema["properties"]
    told = {"model": {"enum": list(models)}, "rule": {"examples": list(RULES)}}
    top = {name: {**properties[name], **told.get(name, {})} for name in ("model", "compat")}
    yield {
        "name": "",
        "title": "Model",
        "help": "",
        "fields": _fields({"properties": top, "required": ["model"]}, tables),
    }
    for name, table in (("sampler", "Sampler"), ("cases", "Cases"), ("numerics", "Numerics")):
        own = tables[table]
        parts = {key: {**value, **told.get(key, {})} for key, value in own["properties"].items()}
        yield {
            "name": name,
            "title": name.capitalize(),
            "help": own["description"],
            "fields": _fields({**own, "properties": parts}, tables),
        }


def _stages() -> Iterator[dict[str, Any]]:
    for name, kind in KINDS.items():
        schema = kind.params.model_json_schema()
        yield {
            "name": name,
            "title": _title(name),
            "help": kind.summary,
            "needs": list(kind.needs),
            "elsewhere": kind.elsewhere,
            "fields": _fields(schema, schema.get("$defs", {})),
        }


def _interventions(tables: Schema) -> Iterator[dict[str, Any]]:
    for table in INTERVENTIONS:
        own = tables[table]
        name = own["properties"]["kind"]["const"]
        yield {
            "name": name,
            "title": _title(name),
            "help": own["description"],
            "fields": _fields(own, tables),
        }


def _fields(schema: Schema, tables: Schema) -> list[dict[str, Any]]:
    """The fields of one table, in the order in which it declares them; required ones are marked."""
    required = schema.get("required", ())
    return [
        {"required": name in required, **found}
        for name, own in schema.get("properties", {}).items()
        if name not in LEFT_OUT or "$ref" in own
        for found in [_field(name, own, tables)]
        if found
    ]


def _field(name: str, own: Schema, tables: Schema) -> dict[str, Any]:
    """One field; empty for one that a page does not offer."""
    told = {
        "name": name,
        "title": _title(name),
        "help": own.get("description", ""),
        "default": own.get("default"),
    }
    branches = [one for one in own.get("anyOf", own.get("oneOf", [own])) if one.get("type") != "null"]
    if name in ENTRIES:
        return {**told, "kind": ENTRIES[name]}
    if "examples" in own:
        return {**told, "kind": "text", "options": own["examples"]}
    tabled = [tables[one["$ref"].rpartition("/")[2]] for one in branches if "$ref" in one]
    tabled = [one for one in tabled if one["title"] not in ELSEWHERE]
    plain = _plain(name, [one for one in branches if "$ref" not in one])
    if not tabled:
        return {**told, **plain} if plain else {}
    forms = [{"name": "value", "title": _title(plain["kind"]), "help": "", **plain}] if plain else []
    return {**told, "kind": "forms", "forms": [*forms, *(_form(one, tables) for one in tabled)]}


def _form(table: Schema, tables: Schema) -> dict[str, Any]:
    """One of several tables that may stand in a place, and what `from` it is told by."""
    said = table["properties"].get("from", {}).get("const")
    fields = _fields(table, tables)
    titled = _title(said or (fields[0]["name"] if len(fields) == 1 else table["title"]))
    return {
        "name": said or table["title"],
        "title": titled,
        "help": table.get("description", ""),
        "from": said,
        "kind": "table",
        "fields": fields,
    }


def _plain(name: str, branches: list[Schema]) -> dict[str, Any]:
    """How a value that is no table is entered."""
    if name == "to":
        return {"kind": "label"}
    if name == "vector":  # as text it is the path of a file
        branches = [one for one in branches if one.get("type") != "string"]
    for one in branches:
        if "enum" in one:
            return {"kind": "choice", "options": one["enum"]}
        if "const" in one:
            return {"kind": "choice", "options": [one["const"]]}
    lists = [one for one in branches if one.get("type") == "array"]
    if lists:
        return _many(lists[0])
    if not branches or branches[0].get("type") == "object":
        return {}
    return _one(branches[0])


def _many(own: Schema) -> dict[str, Any]:
    """Several values of one kind."""
    items = own.get("items", (own.get("prefixItems") or [{}])[0])
    if "enum" in items:
        return {"kind": "checks", "options": items["enum"]}
    counts = {"least": own.get("minItems"), "most": own.get("maxItems")}
    return {"kind": "numbers" if items.get("type") in ("integer", "number") else "texts", **counts}


def _one(own: Schema) -> dict[str, Any]:
    """A single value."""
    match own.get("type"):
        case "boolean":
            return {"kind": "flag"}
        case "integer" | "number":
            least, most = own.get("minimum", own.get("exclusiveMinimum")), own.get("maximum")
            whole = own["type"] == "integer"
            return {"kind": "number", "whole": whole, "minimum": least, "maximum": most}
        case _:
            return {"kind": "text"}


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
