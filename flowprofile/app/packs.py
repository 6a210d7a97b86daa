"""Answers as files that a page can read without a server: scripts, since a page of a folder may load nothing else.

From ``file://`` a browser lets a page run scripts that lie beside it and read nothing. So bytes travel as text within
scripts that call one function of the page, some megabytes a file, and an index says which file holds which answer.
"""

import gzip
import json
from base64 import b64encode
from collections.abc import Iterable
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

LARGEST: Final = 8 << 20
"""Bytes that one file holds, before they are packed; a single answer may be larger."""
FOLDER: Final = "data"
CALL: Final = "flowprofileData"
"""The page's function that takes what a file holds."""
REFUSED: Final = "refused"
"""The name of an answer that is a refusal."""
Pairs = Iterable[tuple[str, str]]
Entry = tuple[str, str, bytes]
"""Key of an address, name of one of its answers, and the answer."""


def key_of(name: str, pairs: Pairs) -> str:
    """An address as the index and the page spell it: parameters by name, the case always in full.

    >>> key_of("activations", [("seed", "0"), ("layer", "mid")])
    '["activations",["layer","mid"],["seed","0"]]'
    """
    return json.dumps([name, *sorted(pairs, key=itemgetter(0))], ensure_ascii=False, separators=(",", ":"))


class Packs:
    """A folder that answers are written into, file by file, and their index, which is written last."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.files = folder / FOLDER, 0
        self.index: dict[str, dict[str, list[int]]] = {}
        self.folder.mkdir()

    def put(self, entries: Iterable[Entry]) -> None:
        """Write entries into as few files as they need; what is not put together lies in files of its own."""
        part: list[Entry] = []
        size = 0
        for entry in entries:
            if part and size + len(entry[2]) > LARGEST:
                self._write(part)
                part, size = [], 0
            part.append(entry)
            size += len(entry[2])
        if part:
            self._write(part)

    def close(self, told: dict[str, Any]) -> None:
        """Write the index, with what else the page must know before it asks."""
        text = json.dumps({**told, "answers": self.index}, ensure_ascii=False, separators=(",", ":"))
        self._script("index", text.encode())

    def _write(self, part: list[Entry]) -> None:
        at = 0
        for key, name, data in part:
            self.index.setdefault(key, {})[name] = [self.files, at, at + len(data)]
            at += len(data)
        self._script(str(self.files), b"".join(data for _, _, data in part))
        self.files += 1

    def _script(self, name: str, data: bytes) -> None:
        text = b64encode(gzip.compress(data, 6, mtime=0)).decode()
        (self.folder / f"{name}.js").write_text(f'{CALL}("{name}","{text}");\n', encoding="ascii")
