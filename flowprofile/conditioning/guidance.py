"""Classifier-free guidance, in one line and one parameter.

Papers write it with w (0 = none) or with a scale (1 = none), and a swapped pair of arguments still gives pictures.
The parameter here is the scale g = 1 + w, everywhere.
"""

from typing import Any, Final

UNCOND: Final = "uncond"
COND: Final = "cond"
HALVES: Final = (UNCOND, COND)
"""The two calls of a guided step, in the order in which they are made: the null label's, and the label's."""


def guided(conditional: Any, unconditional: Any, guidance_scale: float) -> Any:
    """Ho & Salimans 2022, Eq. 6: (1 + w) eps(x, t, label) - w eps(x, t, null), with guidance_scale g = 1 + w.

    Scale 1 is the conditional prediction, scale 0 the unconditional one, both exactly.
    Works on torch tensors, NumPy arrays and numbers.

    >>> guided(2.0, 1.0, 3.0)
    4.0
    """
    return guidance_scale * conditional - (guidance_scale - 1.0) * unconditional
