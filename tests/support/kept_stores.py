"""Small stores to keep house in, what they were asked for, and a process that ends at a chosen phase."""

from flowprofile.description import describe
from flowprofile.store.layout import StoreLayout
from pipelines import pipeline

FAST = StoreLayout(durability="none", chunk="1 KiB", shard="8 KiB", small="1 KiB")
STAGES = {"trajectory": {}, "step_ssim": {"use": "ssim"}, "predicted_x0": {"keep": "::2"}}


class Killed(Exception):
    """The process is gone."""


def killer(at):
    """A listener that ends the process at the phase of that number."""
    left = iter(range(at))

    def listen(phase):
        if next(left, None) is None:
            raise Killed(str(phase))

    return listen


def sweep(**changes):
    """Six seeds of two labels, twenty steps, two objects and a measure."""
    return pipeline(**{"seeds": "0:6", "labels": (0, 1), "steps": 20, **STAGES, **changes})


def told(url):
    """Requested and present, by stage."""
    return {
        stage["name"]: (stage["requested"], stage["present"])
        for run in describe(url)["runs"]
        for stage in run["stages"]
    }
