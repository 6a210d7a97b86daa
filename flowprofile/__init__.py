"""FlowProfile: see inside image diffusion models, step by step, at scale.

>>> import flowprofile as fp
>>> tree = fp.profile("gaussian8", seeds="0:2", labels=[0], into="memory://start", sampler={"steps": 10})
>>> tree["measures/step_ssim"]["value"].sizes["time"]
10

Names are imported when they are first used: opening and querying a profile never loads torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from flowprofile.adopting.verb import adopt as adopt
    from flowprofile.cases import Case as Case
    from flowprofile.cases import Sweep as Sweep
    from flowprofile.comparing import compare as compare
    from flowprofile.conditioning.interventions import Ablation as Ablation
    from flowprofile.conditioning.interventions import Intervention as Intervention
    from flowprofile.conditioning.interventions import Patch as Patch
    from flowprofile.conditioning.interventions import Span as Span
    from flowprofile.conditioning.interventions import Steer as Steer
    from flowprofile.conditioning.interventions import Switch as Switch
    from flowprofile.definitions import Pipeline as Pipeline
    from flowprofile.errors import FlowProfileError as FlowProfileError
    from flowprofile.extension import Stage as Stage
    from flowprofile.extension import measure as measure
    from flowprofile.looking import look as look
    from flowprofile.models.caching import run_with_cache as run_with_cache
    from flowprofile.models.live import denoiser as denoiser
    from flowprofile.models.taps import tapping as tapping
    from flowprofile.models.texts import tokens as tokens
    from flowprofile.models.zoo import load as load
    from flowprofile.opening import open as open
    from flowprofile.ratings import join_ratings as join_ratings
    from flowprofile.running import plan as plan
    from flowprofile.running import profile as profile
    from flowprofile.running import run as run

__version__ = "0.1.0"

_HOME = {
    "Ablation": "conditioning.interventions",
    "Case": "cases",
    "FlowProfileError": "errors",
    "Intervention": "conditioning.interventions",
    "Patch": "conditioning.interventions",
    "Pipeline": "definitions",
    "Span": "conditioning.interventions",
    "Stage": "extension",
    "Steer": "conditioning.interventions",
    "Sweep": "cases",
    "Switch": "conditioning.interventions",
    "adopt": "adopting.verb",
    "compare": "comparing",
    "denoiser": "models.live",
    "join_ratings": "ratings",
    "load": "models.zoo",
    "look": "looking",
    "measure": "extension",
    "open": "opening",
    "plan": "running",
    "profile": "running",
    "run": "running",
    "run_with_cache": "models.caching",
    "tapping": "models.taps",
    "tokens": "models.texts",
}

__all__ = [
    "Ablation",
    "Case",
    "FlowProfileError",
    "Intervention",
    "Patch",
    "Pipeline",
    "Span",
    "Stage",
    "Steer",
    "Sweep",
    "Switch",
    "adopt",
    "compare",
    "denoiser",
    "join_ratings",
    "load",
    "look",
    "measure",
    "open",
    "plan",
    "profile",
    "run",
    "run_with_cache",
    "tapping",
    "tokens",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f"flowprofile.{_HOME[name]}"), name)
    raise AttributeError(f"module 'flowprofile' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(_HOME)
