"""Tables of attributes: CelebA's own and the same as CSV, and whatever else is refused."""

import pytest

from flowprofile.datasets import attributes
from flowprofile.errors import DefinitionError

CELEBA = """3
Bangs Male Smiling Wearing_Lipstick
000001.jpg -1  1  1 -1
000002.jpg  1 -1 -1  1
000003.jpg -1 -1 -1 -1
"""
THESIS = ("bangs", "male", "smile", "lipstick")


def table(tmp_path, text, name="list_attr_celeba.txt"):
    path = tmp_path / name
    path.write_bytes(text.encode())
    return path


def test_the_first_attribute_is_the_most_significant_bit(tmp_path):
    found = attributes.read(table(tmp_path, CELEBA), THESIS)
    assert found.labels == {"000001.jpg": 0b0110, "000002.jpg": 0b1001, "000003.jpg": 0}
    assert found.columns == ("Bangs", "Male", "Smiling", "Wearing_Lipstick")
    turned = attributes.read(table(tmp_path, CELEBA), ("Smiling", "Bangs"))
    assert turned.labels == {"000001.jpg": 0b10, "000002.jpg": 0b01, "000003.jpg": 0}


def test_a_csv_says_the_same(tmp_path):
    rows = [line.split() for line in CELEBA.splitlines()[1:]]
    text = "\r\n".join(",".join(row) for row in [["image_id", *rows[0]], *rows[1:]])
    found = attributes.read(table(tmp_path, text, "a.csv"), THESIS)
    assert found.labels == attributes.read(table(tmp_path, CELEBA), THESIS).labels
    zeros = text.replace("-1", "0")
    assert attributes.read(table(tmp_path, zeros, "b.csv"), THESIS).labels == found.labels


def test_its_digest_is_that_of_its_bytes(tmp_path):
    one = attributes.read(table(tmp_path, CELEBA), THESIS).digest
    other = attributes.read(table(tmp_path, CELEBA.replace("-1 -1 -1 -1", "-1 -1 -1  1")), THESIS).digest
    assert one != other


def test_a_wrong_name_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(DefinitionError, match=r"no attribute 'Smilling'.*\n.*\n.*'Smiling'"):
        attributes.read(table(tmp_path, CELEBA), ("Smilling",))


@pytest.mark.parametrize(
    ("text", "evidence"),
    [
        ("", "first line is ''"),
        ("three\nBangs\n", "its first line is 'three'"),
        ("1\nBangs Male\na.jpg 1\n", "row 1 has 1 values for 2 columns"),
        ("1\nBangs\na.jpg 2\n", "'2' is neither 1 nor -1 nor 0"),
        ("2\nBangs\na.jpg 1\na.jpg 1\n", "names 'a.jpg' a second time"),
        ("id,Bangs\na.jpg,yes\n", "'yes' is neither"),
        ("1\n" + "B" * (1 << 16), "a line has 65536 bytes or more"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, evidence):
    with pytest.raises(DefinitionError, match="is no table of attributes") as refusal:
        attributes.read(table(tmp_path, text), ("Bangs",))
    assert evidence in refusal.value.evidence


def test_a_table_in_another_code_or_none_at_all_is_refused(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"1\nB\xe4ngs\n")
    with pytest.raises(DefinitionError, match="is no table of attributes"):
        attributes.read(tmp_path / "a.txt", ("Bangs",))
    with pytest.raises(DefinitionError, match="There is no attribute table"):
        attributes.read(tmp_path / "none.txt", ("Bangs",))
