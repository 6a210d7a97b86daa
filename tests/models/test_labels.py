"""One meaning for a label, whatever way it is written."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import DefinitionError

BITS = LabelSpace(("bangs", "male", "smile", "lipstick"))
TEN = LabelSpace(classes=10)


@given(st.integers(0, 15))
def test_every_writing_of_a_label_means_the_same(label):
    assert BITS.parse(BITS.bits(label)) == label
    assert BITS.parse(BITS.names(label)) == label
    assert BITS.parse(tuple(reversed(BITS.names(label)))) == label
    assert BITS.parse(label) == label


@given(st.integers(0, 9))
def test_classes_are_numbers_as_values_or_text(label):
    assert TEN.parse(label) == TEN.parse(TEN.bits(label)) == label
    assert TEN.names(label) == (str(label),)


def test_the_first_attribute_is_the_most_significant_bit():
    assert [BITS.parse([name]) for name in BITS.attributes] == [8, 4, 2, 1]
    assert BITS.parse("male+smile") == BITS.parse("0110") == 6
    assert BITS.parse("15") == 15
    assert BITS.parse([]) == 0


@pytest.mark.parametrize(
    ("space", "value", "told"),
    [
        (BITS, 16, "out of range 0 .. 15"),
        (BITS, 110, 'must be quoted: "0110"'),
        (BITS, -1, "out of range"),
        (BITS, "110", "has 3 bits"),
        (BITS, "10", "has 2 bits"),
        (BITS, ["smlie"], "did you mean 'smile'"),
        (BITS, ["smile", "smile"], "named twice"),
        (BITS, True, "truth value"),
        (TEN, 10, "out of range 0 .. 9"),
        (TEN, "seven", "not a class number"),
        (TEN, ["smile"], "knows classes only"),
    ],
)
def test_a_wrong_label_is_refused_with_the_remedy(space, value, told):
    with pytest.raises(DefinitionError) as caught:
        space.parse(value)
    assert told in str(caught.value)
    assert "To mend it: write" in str(caught.value)


@pytest.mark.parametrize(("attributes", "classes"), [((), 0), (("a",), 3), (("a", "a"), 0)])
def test_a_space_without_one_meaning_is_refused(attributes, classes):
    with pytest.raises(DefinitionError):
        LabelSpace(attributes, classes)
