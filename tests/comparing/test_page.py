"""The page about comparing says what comes out."""

import re
from pathlib import Path

import numpy as np

from flowprofile import running

PAGE = (Path(__file__).parents[2] / "docs" / "comparing.md").read_text("utf-8")


def blocks(kind):
    return re.findall(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)


def test_the_example_of_the_page_gives_the_numbers_it_states(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("part.toml").write_text(blocks("toml")[0], "utf-8")
    running.run("part.toml", into="out/part")
    names = {}
    code, expected = blocks("python")[0], []
    for line in code.splitlines():
        stated = re.fullmatch(r"(.+\S)  # (\[.*\]|[\d.]+).*", line)
        if stated is None:
            exec(line, names)
        else:
            expected.append(stated[2])
            found = np.atleast_1d(eval(stated[1], names))
            wanted = np.array(stated[2].strip("[]").split(), float)
            np.testing.assert_array_equal(found, wanted)
    assert len(expected) == 3
