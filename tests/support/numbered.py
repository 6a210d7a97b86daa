"""Work that says which of a machine's workers did it; importable where they are."""

from flowprofile import numbering
from flowprofile.errors import DefinitionError


class Numbered:
    """An order whose tasks are refused with the worker's number."""

    key = "numbered"

    def open(self):
        return self

    def __call__(self, numbers, listen, *, again):
        raise DefinitionError(f"number {numbering.number()}")
