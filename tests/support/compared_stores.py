"""Stores to compare in: sampled ones, and ones whose curves are given."""

import numpy as np
import xarray as xr

from flowprofile import running
from flowprofile.cases import Sweep
from flowprofile.definitions import Pipeline
from flowprofile.store.declarations import RunDeclaration, StageDeclaration
from flowprofile.store.layout import StoreLayout
from flowprofile.store.promise import promise
from flowprofile.store.store import Store
from pipelines import pipeline

FAST = StoreLayout(durability="none", small="1 KiB")
STAGES = {
    "trajectory": {},
    "step_ssim": {"use": "ssim"},
    "label_ssim": {"use": "ssim", "between": "labels"},
    "clean_ssim": {"use": "ssim", "between": "clean"},
}


def sampled(url, **changes):
    """Six seeds of three labels, clean and with the label switched, and every measure of them."""
    stages, layout = changes.pop("stages", STAGES), changes.pop("layout", FAST)
    made = pipeline(
        **{"model": "digits", "seeds": "0:6", "labels": (0, 1, 2), "steps": 20, **changes, **stages}
    )
    if "clean_ssim" in stages:
        switch = {"kind": "switch", "at": [500], "to": 2}
        table = made.model_dump(exclude_unset=True)
        made = Pipeline.model_validate({**table, "interventions": {"later": switch}})
    running.run(made, into=url, layout=layout)
    return str(url)


RUN = RunDeclaration("given", "ab" * 8, (2, 4), {"model": {"name": "given"}})


def given(url, value, null=None):
    """A store whose SSIM between labels 0 and 1 is value[seed, step], and its null's null[seed, step]."""
    seeds, steps = value.shape
    curves = {"label_ssim": value} | ({} if null is None else {"label_ssim.null": null})
    declared = {name: _stage(name, key, steps) for name, key in zip(curves, "ab", strict=False)}
    with Store.open(str(url), layout=FAST) as store:
        store.prepare(RUN, Sweep(tuple(range(seeds)), (0, 1)), list(declared.values()))
        for name, stage in declared.items():
            for region in store.cut(RUN.folder, stage.folder, ~store.present(RUN.folder, stage.folder)):
                times = range(steps - 1, -1, -1)[slice(*region.times)]
                part = curves[name][slice(*region.seeds), slice(*region.times)]
                both = np.repeat(part[..., None], 2, axis=-1).astype(np.float32)
                block = {"value": (("case", "time", "other_label"), both)}
                store.write(region, xr.Dataset(block, coords={"time": list(times)}))
    return str(url)


def _stage(name, key, steps):
    coords = {"time": np.arange(steps - 1, -1, -1), "other_label": [0, 1]}
    promised = promise({"value": (("time", "other_label"), "float32")}, coords)
    attrs = {"kind": "ssim", "version": 1, "params": {"between": "labels", "window": 7, "data_range": 2.0}}
    return StageDeclaration(f"measures/{name}", key * 10, promised, steps, attrs)
