"""Runs with interventions, and the states they come to."""

import flowprofile as fp
from flowprofile import running


def definition(
    interventions, *, model="digits", steps=40, seeds="0:2", labels=(3, 5), sampler=None, **stages
):
    return fp.Pipeline.model_validate(
        {
            "model": model,
            "sampler": {"steps": steps, **(sampler or {})},
            "cases": {"seeds": seeds, "labels": list(labels)},
            "interventions": interventions,
            "stages": stages or {"trajectory": {}},
        }
    )


def opened(pipeline, store):
    running.run(pipeline, into=store)
    return fp.open(store)


def state(tree, intervention, label, seed, t=0):
    return tree["trajectory"]["x_t"].sel(intervention=intervention, label=label, seed=seed, time=t).values
