"""Pipelines as files: TOML in, a frozen `Pipeline` out, and refusals that name file, line, key and nearest name.

A definition is data. It can be hashed, kept as provenance in the store it filled, compared with another, and
overridden on the command line. `text` knows where something is written, `pipeline` and `interventions` what may be,
`files` how files become one table.
"""

from flowprofile.definitions.base import MAX_SEEDS as MAX_SEEDS
from flowprofile.definitions.base import Seeds as Seeds
from flowprofile.definitions.base import Table as Table
from flowprofile.definitions.files import MAX_BYTES as MAX_BYTES
from flowprofile.definitions.files import MAX_EXTENDS as MAX_EXTENDS
from flowprofile.definitions.files import find as find
from flowprofile.definitions.files import folders as folders
from flowprofile.definitions.files import merged as merged
from flowprofile.definitions.files import names as names
from flowprofile.definitions.files import overridden as overridden
from flowprofile.definitions.files import parse as parse
from flowprofile.definitions.files import read as read
from flowprofile.definitions.files import shipped as shipped
from flowprofile.definitions.pipeline import Cases as Cases
from flowprofile.definitions.pipeline import NoiseFile as NoiseFile
from flowprofile.definitions.pipeline import Numerics as Numerics
from flowprofile.definitions.pipeline import Pipeline as Pipeline
from flowprofile.definitions.pipeline import Sampler as Sampler
from flowprofile.definitions.pipeline import cases_fit as cases_fit
from flowprofile.definitions.pipeline import pipeline as pipeline
from flowprofile.definitions.source import SourceTable as SourceTable
from flowprofile.definitions.text import Text as Text
from flowprofile.definitions.text import refusal as refusal
from flowprofile.definitions.written import toml as toml
