"""What a label number means, and the ways in which a person may write it.

A label travels through the library as one integer, because an integer is a coordinate that every store and every
plot understands. People think in attributes. The label space is the only place that translates, so that "0110",
6 and ["male", "smile"] cannot come to mean different samples.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from flowprofile.errors import DefinitionError, nearest

LabelValue: TypeAlias = "int | str | Sequence[str]"
"""A number, a quoted bit string or number, one attribute name, or several."""


MOST_ATTRIBUTES: Final = 62
"""Bits of a label's number."""


@dataclass(frozen=True)
class LabelSpace:
    """All labels of one model: combinations of attributes, plain classes, or prompts.

    Exactly one of the three is given. The first attribute is the most significant bit. A prompt's number is a digest
    of its text, so that a sweep grows by prompts without any of them meaning another.

    >>> space = LabelSpace(("bangs", "male", "smile", "lipstick"))
    >>> space.parse("0110"), space.parse(["smile", "male"]), space.parse(6)
    (6, 6, 6)
    >>> space.bits(6), space.names(6)
    ('0110', ('male', 'smile'))
    """

    attributes: tuple[str, ...] = ()
    """Names of the bits, most significant first; empty for a space of classes."""
    classes: int = 0
    """Number of classes; 0 for a space of attributes."""
    prompts: bool = False
    """Whether every text is a label."""
    texts: dict[int, str] = field(default_factory=dict, compare=False, repr=False)
    """The prompts that were written down so far, by number."""

    def __post_init__(self) -> None:
        if bool(self.attributes) + (self.classes > 0) + self.prompts != 1:
            raise DefinitionError(
                f"A label space has attributes, classes or prompts, not {self.attributes!r} and {self.classes!r}.",
                consequence="The meaning of a label number would be undefined.",
                remedy="give LabelSpace(attributes=(...)), LabelSpace(classes=n) with n >= 1, or LabelSpace(prompts=True)",
            )
        if len(self.attributes) > MOST_ATTRIBUTES or not 0 <= self.classes < 1 << MOST_ATTRIBUTES:
            raise DefinitionError(
                f"A label space has {len(self.attributes):,} attributes, or more classes than can be counted.",
                consequence="A label is stored as one whole number of 64 bits.",
                remedy=f"give at most {MOST_ATTRIBUTES} attributes",
            )
        if not all(isinstance(name, str) for name in self.attributes):
            raise DefinitionError(
                f"The attributes {list(self.attributes)[:4]!r} are not all names.",
                remedy="give every attribute a name",
            )
        if len(set(self.attributes)) != len(self.attributes):
            raise DefinitionError(
                f"The attributes {list(self.attributes)!r} repeat a name.",
                consequence="One name would stand for two bits.",
                remedy="give every attribute a name of its own",
            )

    @property
    def count(self) -> int:
        """How many labels there are; they are 0 .. count - 1. Of prompts there is no end, and the count is 0."""
        return 1 << len(self.attributes) if self.attributes else self.classes

    @property
    def width(self) -> int:
        """Characters of a written label: bits, or decimal digits of the largest class."""
        return len(self.attributes) or len(str(self.classes - 1))

    def table(self) -> dict[str, Any]:
        """The space as JSON can hold it; the prompts in it are the sweep's, not the space's."""
        plain: dict[str, Any] = {"attributes": self.attributes, "classes": self.classes}
        return {**plain, "prompts": True} if self.prompts else plain

    @classmethod
    def of_table(cls, table: Mapping[str, Any]) -> "LabelSpace":
        """The space that `table` gave."""
        return cls(tuple(table["attributes"]), table["classes"], bool(table.get("prompts", False)))

    def parse(self, value: LabelValue) -> int:
        """The label number of what a person wrote; raises DefinitionError with the remedy."""
        if isinstance(value, bool):
            raise self._refusal(f"{value!r} is a truth value, not a label.")
        if isinstance(value, int):
            return self._checked(value)
        if self.prompts:
            return self._prompted(value)
        if isinstance(value, str):
            return self._parse_text(value.strip())
        return self._parse_names(tuple(value))

    def bits(self, label: int) -> str:
        """The label as it is written in captions: a bit string, the number of the class, or the prompt."""
        number = self._checked(label)
        if self.prompts:
            return self.texts[number]
        return f"{number:0{self.width}b}" if self.attributes else str(number)

    def written(self, labels: Iterable[int]) -> list[int | str]:
        """Labels as a definition can hold them: numbers, or the prompts themselves."""
        return [self.texts[label] if self.prompts else label for label in labels]

    def names(self, label: int) -> tuple[str, ...]:
        """Attributes that are on, in the order of the bits; the class number as text for classes."""
        bits = self.bits(label)
        if not self.attributes:
            return (bits,)
        return tuple(name for name, bit in zip(self.attributes, bits, strict=True) if bit == "1")

    def _checked(self, number: int) -> int:
        if number in self.texts if self.prompts else 0 <= number < self.count:
            return number
        if self.prompts:
            raise self._refusal(f"No prompt with the number {number} was written down.")
        looks_binary = self.attributes and set(str(number)) <= {"0", "1"}
        hint = f'; a bit string must be quoted: "{number:0{self.width}d}"' if looks_binary else ""
        raise self._refusal(f"Label {number!r} is out of range 0 .. {self.count - 1}{hint}.")

    def _parse_text(self, text: str) -> int:
        binary = bool(text) and set(text) <= {"0", "1"}
        if self.attributes and binary:
            if len(text) == self.width:
                return int(text, 2)
            raise self._refusal(
                f"The bit string {text!r} has {len(text)} bits; this model's labels have {self.width}."
            )
        if text.isascii() and text.isdigit():
            return self._checked(int(text))
        if self.attributes:
            return self._parse_names(tuple(part.strip() for part in text.split("+")))
        raise self._refusal(f"{text!r} is not a class number.")

    def _prompted(self, value: LabelValue) -> int:
        if not isinstance(value, str):
            raise self._refusal(f"{value!r} is no prompt.")
        number = prompt_number(value)
        if self.texts.setdefault(number, value) != value:
            raise self._refusal(
                f"The prompts {value!r} and {self.texts[number]!r} have one number, {number}."
            )
        return number

    def _parse_names(self, names: tuple[str, ...]) -> int:
        if not self.attributes:
            raise self._refusal(f"{list(names)!r} names attributes, and this model knows classes only.")
        number = 0
        for name in names:
            if name not in self.attributes:
                raise self._refusal(f"There is no attribute {name!r}: {nearest(name, self.attributes)}.")
            bit = 1 << (len(self.attributes) - 1 - self.attributes.index(name))
            if number & bit:
                raise self._refusal(f"The attribute {name!r} is named twice in {list(names)!r}.")
            number |= bit
        return number

    def _refusal(self, fact: str) -> DefinitionError:
        if self.prompts:
            remedy, evidence = 'write the prompt itself: labels = ["a cat on a chair"]', ""
        elif self.attributes:
            example = self.attributes[: min(2, len(self.attributes))]
            number = self._parse_names(example)
            remedy = f'write {number}, "{self.bits(number)}" or {list(example)!r}, which mean the same'
            evidence = f"bits, most significant first: {', '.join(self.attributes)}"
        else:
            remedy = f"write a number in 0 .. {self.count - 1}"
            evidence = f"{self.count} classes"
        return DefinitionError(
            fact, consequence="No sample can be asked for with it.", remedy=remedy, evidence=evidence
        )


def prompt_number(text: str) -> int:
    """The label number of a prompt: 32 bits of a digest of its text.

    >>> prompt_number("a cat")
    2169309207
    """
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big")
