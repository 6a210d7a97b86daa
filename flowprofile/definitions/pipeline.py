"""What a definition may say: a model, a sampler, cases, what is done to the model, and stages."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, Tag, ValidationError
from pydantic_core import CoreSchema, core_schema

from flowprofile.definitions.base import Labels, Seeds, Table, one_of
from flowprofile.definitions.interventions import InterventionTable, shaped
from flowprofile.definitions.report import Report
from flowprofile.definitions.source import SourceTable
from flowprofile.definitions.text import Text, missing, refusal
from flowprofile.errors import DefinitionError, nearest


class NoiseFile(Table):
    """First states from a file, and a seeded generator's draws after them."""

    file: str = Field(description="a .npy file, float32 [seed channel y x], from the definition's folder")


def _noise(value: object) -> object:
    if isinstance(value, str) and value.endswith(".npy"):
        return {"file": value}
    if isinstance(value, str) and value not in ("philox", "torch"):
        raise ValueError(
            f'there is no noise {value!r}: {nearest(value, ("philox", "torch"))}; a file is {{ file = "x_T.npy" }}'
        )
    return value


class _AsWritten:
    """Shown in the schema as the table it must be, and kept as it was written; `shaped` checks it with its place."""

    @staticmethod
    def __get_pydantic_core_schema__(_: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            lambda value, _: value,
            handler.generate_schema(InterventionTable),
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: value, return_schema=core_schema.any_schema()
            ),
        )


class Sampler(Table):
    """How noise becomes an image."""

    rule: str = Field(
        "ddpm",
        description="ddpm or ddim; or a scheduler of diffusers' by its class (EulerDiscreteScheduler); or scheduler,"
        " the one in the model's own folder",
    )
    options: dict[str, Any] | None = Field(
        None, description="a scheduler's: arguments of its class that are other than in its configuration"
    )
    steps: int = Field(1000, ge=1, description="transitions; fewer than the schedule's T respaces them")
    eta: float | None = Field(
        None, ge=0, le=1, description="ddim only: 0 is deterministic, 1 as noisy as ddpm"
    )
    variance: Literal["posterior", "beta"] | None = Field(
        None, description="ddpm only: posterior (default) or beta, the thesis' text"
    )
    guidance_scale: float = Field(
        1.0,
        ge=0,
        allow_inf_nan=False,
        description="g = 1 + w of classifier-free guidance; 1 is none, 0 leaves the label out",
    )
    negative_prompt: str | None = Field(
        None,
        description="text of guidance's unconditional half, of a model that is told prompts; empty by default",
    )
    embedded_guidance: float | None = Field(
        None,
        ge=0,
        allow_inf_nan=False,
        description="scale that a network which imitates guidance (FLUX.1 dev) is told; 3.5 by default",
    )
    noise: Annotated[
        Annotated[Literal["philox", "torch"], Tag("text")] | Annotated[NoiseFile, Tag("table")],
        one_of("noise", '"philox", "torch" or { file = "x_T.npy" }'),
        BeforeValidator(_noise),
    ] = Field(
        "philox",
        description="philox: a function of (seed, t); torch: one seeded generator per case, x_T first and then one"
        ' draw per step; { file = "x_T.npy" }: x_T from a file, and the generator\'s draws after it',
    )


class Cases(Table):
    """Which samples."""

    seeds: Seeds | None = Field(
        None,
        description='half-open range "0:4", or a list; where a table [source] gives pictures it may be left out for all of them',
    )
    labels: Labels | None = Field(
        None,
        description='numbers, quoted bit strings "0110", attribute names, or "all"; left out where a table of'
        " attributes gives each image its own",
    )


class Numerics(Table):
    """What decides the last bits of a result, and is therefore fixed per run."""

    batch: int = Field(
        8, ge=1, le=4096, strict=True, description="canonical batch: every batch is padded to this size"
    )
    device: str = Field(
        "cpu",
        pattern=r"^[a-z]+(:[^:]+)?$",
        max_length=120,
        description='where the network computes: "cpu", "cuda", or "cuda:NVIDIA H200" to plan where there is none',
    )


class Pipeline(Table):
    """What to compute: a model, a sampler, cases, and the stages in between.

    The same values as in a file can be given from Python; ``model`` may then be a live denoiser.

    >>> Pipeline(model="digits", cases={"seeds": "0:2", "labels": [3]}, stages={"trajectory": {}}).sampler.steps
    1000
    """

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    description: str = ""
    model: Any = Field(description="a shipped model, the path of a safetensors checkpoint")
    sampler: Sampler = Sampler()
    cases: Cases
    source: SourceTable | None = Field(None, description="pictures that are given, instead of sampled")
    numerics: Numerics = Numerics()
    compat: Literal["thesis-2023"] | None = Field(
        None, description="reproduce published code together with its defects; see docs/compat.md"
    )
    interventions: dict[str, Annotated[Any, _AsWritten]] = Field(
        default_factory=dict,
        description="[interventions.TITLE] kind = ablate, switch, patch, steer or all; in Python also a part"
        " (`Ablation`, `Switch`, `Patch`, `Steer`) or an `Intervention`",
    )
    stages: dict[str, dict[str, Any]] = Field(
        description="[stages.NAME] use = KIND, needs = [...], and the kind's own parameters"
    )
    report: Report | None = Field(
        None, exclude=True, description="what to find out; decides nothing that is computed"
    )


def pipeline(table: Mapping[str, Any], text: Text) -> Pipeline:
    """The table as a `Pipeline`; a wrong key or value is refused with its place."""
    try:
        found = Pipeline.model_validate(dict(table))
    except ValidationError as error:
        raise refusal(error, text, Pipeline) from None
    cases_fit(found, text)
    for title, written in found.interventions.items():
        shaped(title, written, text)
    return found


def cases_fit(found: Pipeline, text: Text) -> None:
    """Refuse cases that a definition leaves open, or says twice."""
    source, cases = found.source, found.cases
    if cases.seeds is None and source is None:
        raise missing("seeds", text.place(["cases", "seeds"]))
    if cases.labels is None and source is None:
        raise missing("labels", text.place(["cases", "labels"]))
    if source is None:
        return
    if cases.labels is None and source.attributes is None:
        raise DefinitionError(
            f"What the network is told with each image is missing ({text.place(['cases', 'labels'])}).",
            consequence="A picture does not say its label, and every call of the network needs one.",
            remedy='name it, labels = ["0110"], or give a table with a row for each picture:'
            ' attributes = "list_attr_celeba.txt" in [source]',
        )
    if cases.labels is not None and source.attributes is not None:
        raise DefinitionError(
            "Labels are given twice: in [cases], and by the attributes of [source]"
            f" ({text.place(['source', 'attributes'])}).",
            consequence="It is not known which of the two is meant.",
            remedy="leave one of them out",
        )
    if found.report is not None:
        raise DefinitionError(
            f"A report draws seeds of its own, and a source gives images ({text.place(['source'])}).",
            consequence="There would be no sample to judge.",
            remedy="leave [report] or [source] out",
        )
