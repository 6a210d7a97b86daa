"""Two conditions, compared seed by seed over time: what a profile was made for.

`compare` finds the curves (a stored measure, or the stored states), subtracts the null, and says of the mean over
seeds where it is and from which step on it exceeds a threshold. Seeds are streamed through tallies, so memory does
not grow with them; what was found is kept beside the profile, under a key of everything that decides it.

Sides are named in `sides`, curves come from `stored` or from `states`, are added up in `tallying`, become a dataset
in `findings`, and are kept in `keeping`.
"""

from flowprofile.comparing.verb import compare as compare

__all__ = ["compare"]
