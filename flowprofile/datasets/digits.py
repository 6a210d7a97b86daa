"""The 1,797 handwritten digits that come with scikit-learn: real data that needs no download.

Eight by eight pixels are enough for ten classes that anyone can read, so a model of them trains in minutes and
samples in a moment. They are the model for fast tests and for "train your own".
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flowprofile.conditioning.labels import LabelSpace
from flowprofile.errors import DefinitionError

LABELS: Final = LabelSpace(classes=10)
COUNT: Final = 1797


@dataclass(frozen=True)
class Digits:
    """Images with their class."""

    images: NDArray[np.float32]
    """Ink in [0, 1], [case channel y x]."""
    labels: NDArray[np.int64]
    """The digit, [case]."""


def digits() -> Digits:
    """All digits in the order of the source (Alpaydin and Kaynak, 1998; 32 x 32 bitmaps counted in 4 x 4 blocks)."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise DefinitionError(
            "The handwritten digits live inside scikit-learn, which is not installed.",
            consequence="Only training and measuring the model 'digits' need them; sampling does not.",
            remedy="pip install 'flowprofile[train]'",
            evidence=str(error),
        ) from error
    bunch = load_digits()
    images = (bunch.images / 16.0).astype(np.float32)[:, None]
    return Digits(images, bunch.target.astype(np.int64))
