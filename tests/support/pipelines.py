"""A small pipeline of the closed-form mixture."""

from flowprofile.definitions import Pipeline

MEASURES = {
    "step_ssim": {"use": "ssim"},
    "final_ssim": {"use": "ssim", "between": "final"},
    "final_psnr": {"use": "psnr", "between": "final"},
    "step_mse": {"use": "mse"},
}


def pipeline(*, model="mixture16", steps=40, seeds="0:3", labels=(0, 1), batch=8, sampler=None, **stages):
    table = {
        "model": model,
        "sampler": {"steps": steps, **(sampler or {})},
        "cases": {"seeds": seeds, "labels": list(labels)},
        "numerics": {"batch": batch},
        "stages": stages or {"trajectory": {}, **MEASURES},
    }
    return Pipeline.model_validate(table)
