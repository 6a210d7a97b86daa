"""The way back: from an image up to the noise from which a deterministic sampler makes it.

A step of the sampler, x_to = a x_from + b eps(x_from), cannot be solved for x_from, since eps is asked there. It is
solved by iteration: eps is asked at the last guess, and the first guess is x_to. One iteration is the usual DDIM
inversion, whose error falls with the length of the steps; further ones come nearer to the very state, as far as the
network's slope allows.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from flowprofile.cases import Case
from flowprofile.time.rules import Rule, coefficients
from flowprofile.time.sample import EpsModel, must_be_finite, pad
from flowprofile.time.schedule import Levels


def invert(
    denoiser: EpsModel,
    cases: Sequence[Case],
    start: tuple[int, Tensor],
    times: Sequence[int],
    *,
    schedule: Levels,
    rule: Rule,
    batch: int,
    iterations: int = 1,
) -> Iterator[tuple[int, Tensor]]:
    """The states above one that is known, one after the other.

    Parameters
    ----------
    denoiser, cases
        The network, and at most `batch` samples.
    start
        (t, x_t), [case channel y x]; the image is state 0.
    times
        The states to reach, ascending, each the sampler's neighbour of the one before.
    schedule, rule, batch
        As in `sample`; the rule adds no noise and is linear.
    iterations
        Network evaluations of a case for each step.

    Yields
    ------
    (t, x_t)

    Raises
    ------
    NonFiniteError
        Names the first sample that has left the numbers.
    """
    t, x = start
    labels = pad(torch.tensor([case.label for case in cases], dtype=torch.int64), batch)
    for above in times:
        step = coefficients(rule, schedule=schedule, t_from=above, t_to=t)
        index = torch.full((batch,), above - 1, dtype=torch.int64)
        guess = x
        for _ in range(iterations):
            with torch.no_grad():
                eps = denoiser(pad(guess, batch), index, labels)[: len(cases)]
            guess = (x - eps * step.eps) * (1.0 / step.x)
        t, x = above, guess
        must_be_finite(x, cases, t)
        yield t, x
