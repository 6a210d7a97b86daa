"""What goes back to the browser: JSON that JSON allows, and refusals that teach there too."""

import json
import math
from typing import Any

from starlette.responses import JSONResponse, Response

from flowprofile.errors import FlowProfileError


def answer(value: Any, *, status: int = 200) -> Response:
    """A value as JSON; what is not a number is null."""
    text = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text, status_code=status, media_type="application/json")


def refused(error: FlowProfileError, *, status: int = 400) -> JSONResponse:
    """A refusal with its fact, consequence, remedy and evidence."""
    told = {
        "fact": error.fact,
        "consequence": error.consequence,
        "remedy": error.remedy,
        "evidence": error.evidence,
    }
    return JSONResponse(told, status_code=status)


def finite(value: Any) -> Any:
    """The same value with None for what JSON cannot say."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return value.item() if hasattr(value, "item") else value
