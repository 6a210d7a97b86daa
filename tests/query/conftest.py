"""The same specimen stores as the tests of the store itself."""

import importlib.util
import sys
from pathlib import Path

_path = Path(__file__).parents[1] / "store" / "conftest.py"
_spec = importlib.util.spec_from_file_location("store_specimen", _path)
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules["store_specimen"] = _module
_spec.loader.exec_module(_module)

filled = _module.filled
house = _module.house
specimen = _module.specimen
url = _module.url
