"""The page itself: static files that are known by name before anybody asks, and the map of its modules.

There is no build step: modules import each other by names that the page's import map turns into addresses, so the
same files serve from here and, as data, from an exported folder.
"""

import hashlib
import json
from base64 import b64encode
from functools import cache
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from flowprofile.errors import FlowProfileError

FOLDER: Final = Path(str(resources.files("flowprofile.app"))) / "static"
TYPES: Final = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".svg": "image/svg+xml",
}
MAP: Final = "<!-- modules -->"
"""Where the page's own modules are named."""
SCRIPT: Final = '<script type="module" src="/static/app.js"></script>'
ENTRY: Final = 'import "app/exported.js"; import "app/app.js";'
"""Starts the exported page: first what answers in the server's place."""
POLICY: Final = (
    "default-src 'none'; script-src 'self' file: data: {digests}; style-src 'self' file: 'unsafe-inline'; "
    "img-src data: blob:; connect-src 'none'; worker-src 'none'; base-uri 'none'; form-action 'none'"
)
"""Of an exported page: it can ask nobody for anything. A file's own folder is 'self' in some browsers only."""


@cache
def files() -> dict[str, Path]:
    """Every static file by its address; nothing else of the disk can be named."""
    found = (path for path in sorted(FOLDER.rglob("*")) if path.suffix in TYPES)
    return {path.relative_to(FOLDER).as_posix(): path for path in found}


def module_map() -> str:
    """The import map: ``app/views/sample.js`` is at ``/static/views/sample.js``."""
    names = [name for name in files() if name.endswith(".js")]
    return json.dumps({"imports": {f"app/{name}": f"/static/{name}" for name in names}})


def index() -> str:
    """The page."""
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    return text.replace(MAP, f'<script type="importmap">{module_map()}</script>')


def script_digest() -> str:
    """The digest by which the content policy knows the import map."""
    return _digest(module_map())


def _digest(script: str) -> str:
    return f"'sha256-{_base64(hashlib.sha256(script.encode()).digest())}'"


def _base64(data: bytes) -> str:
    return b64encode(data).decode()


def standalone() -> str:
    """The page as one that opens from a disk, where modules can be loaded from nowhere but the page itself."""
    names = [name for name in files() if name.endswith(".js")]
    modules = {
        f"app/{name}": f"data:text/javascript;base64,{_base64(files()[name].read_bytes())}" for name in names
    }
    scripts = {"importmap": json.dumps({"imports": modules}), "module": ENTRY}
    digests = " ".join(_digest(text) for text in scripts.values())
    policy = f'<meta http-equiv="Content-Security-Policy" content="{POLICY.format(digests=digests)}">'
    inside = "\n    ".join(
        [policy, *(f'<script type="{kind}">{text}</script>' for kind, text in scripts.items())]
    )
    text = (FOLDER / "index.html").read_text(encoding="utf-8")
    for old, new in ((MAP, inside), (SCRIPT, ""), ("/static/style.css", "style.css")):
        assert old in text, f"index.html lacks {old!r}"
        text = text.replace(old, new)
    return text


def plotly() -> Path:
    """plotly.js as plotly's wheel brings it."""
    spec = find_spec("plotly")
    path = Path(spec.origin).parent / "package_data" / "plotly.min.js" if spec and spec.origin else None
    if path is None or not path.is_file():
        raise FlowProfileError(
            "The interface needs plotly, and it is not installed.",
            consequence="Curves and volumes cannot be drawn.",
            remedy='pip install "flowprofile[app]"',
        )
    return path
