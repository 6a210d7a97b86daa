"""Identity and outputs, frozen: a change of either must be a decision.

If a key below changes, every store in the world is computed anew. If an output changes, the version of its stage
must be raised. Outputs are compared to 1e-3, since their last bits belong to a machine.
"""

import numpy as np
import pytest
import saved_folders

import flowprofile as fp
from flowprofile import running
from flowprofile.projecting import assembled, project
from flowprofile.store.layout import StoreLayout
from pipelines import MEASURES, pipeline

KEYS = {
    "trajectory": "92608f86ce",
    "step_ssim": "0bb59b152d",
    "final_ssim": "e3c528efe6",
    "final_psnr": "9f81e103e4",
    "step_mse": "2ebaa09578",
    "predicted_x0": "d4f60e0b40",
    "trajectory.null": "72ab7668ee",
    "step_ssim.null": "b121b7a059",
    "final_ssim.null": "95b0d17edb",
    "final_psnr.null": "51c55fbbe3",
    "step_mse.null": "5cc2501fd7",
}
OUTPUTS = {
    "trajectory/x_t": [0.19163, 0.87531, 0.01123],
    "predicted_x0/x0_hat": [0.49706, 0.127, -0.00705],
    "measures/step_ssim/value": [0.61969, 0.21479, 0.01652],
    "measures/step_ssim/null": [0.62049, 0.21486, 0.01658],
    "measures/final_ssim/value": [0.09897, 0.22192, 0.01596],
    "measures/final_ssim/null": [0.10702, 0.21961, 0.01625],
    "measures/final_psnr/value": [1.96898, 5.02577, 0.40912],
    "measures/final_psnr/null": [1.98248, 4.94719, 0.3997],
    "measures/step_mse/value": [0.23428, 0.13332, -0.01348],
    "measures/step_mse/null": [0.2344, 0.13322, -0.01347],
}


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """The small profile that is frozen."""
    store = tmp_path_factory.mktemp("frozen") / "store"
    source = pipeline(trajectory={}, **MEASURES, predicted_x0={"keep": "::10"})
    running.run(source, into=store, layout=StoreLayout(durability="none"))
    return fp.open(store).load()


def test_keys_are_frozen():
    ready = running.assembled(pipeline(trajectory={}, **MEASURES, predicted_x0={"keep": "::10"}))
    assert {name: key[:10] for name, key in ready.graph.keys.items()} == KEYS


def summary(values):
    """A few numbers that any change of an array would move."""
    clean = values.transpose("intervention", "label", "seed", "time", ...).values.astype(np.float64)
    ramp = np.linspace(-1, 1, clean.size).reshape(clean.shape)
    return [round(float(number), 5) for number in (clean.mean(), clean.std(), (clean * ramp).mean())]


def test_outputs_are_frozen(tree):
    found = {
        f"{name}/{variable}": summary(node[variable])
        for name, node in (
            *((child, tree[child]) for child in ("trajectory", "predicted_x0")),
            *((f"measures/{child}", tree[f"measures/{child}"]) for child in MEASURES),
        )
        for variable in node.data_vars
        if variable != "status"
    }
    assert sorted(found) == sorted(OUTPUTS)
    for name, numbers in found.items():
        np.testing.assert_allclose(numbers, OUTPUTS[name], atol=1e-3, err_msg=name)


GOLDEN_PLANS = {
    "first-profile": {
        "trajectory": (8008, 8000, 98402304),
        "trajectory.null": (0, 0, 0),
        "step_ssim": (8000, 0, 32000),
        "step_ssim.null": (8000, 0, 32000),
        "final_ssim": (8008, 0, 32032),
        "final_ssim.null": (8008, 0, 32032),
    },
    "digits": {
        "trajectory": (0, 80000, 0),
        "trajectory.null": (0, 0, 0),
        "step_ssim": (80000, 0, 320000),
        "step_ssim.null": (80000, 0, 320000),
        "step_mse": (80000, 0, 320000),
        "step_mse.null": (80000, 0, 320000),
        "final_psnr": (80000, 0, 320000),
        "final_psnr.null": (80000, 0, 320000),
    },
    "inside": {
        "trajectory": (656, 16000, 8060928),
        "predicted_x0": (320, 0, 3932160),
        "activations/downs.0.2.fn": (320, 0, 20971520),
        "activations/downs.1.2.fn": (320, 0, 10485760),
        "activations/downs.2.2.fn": (320, 0, 5242880),
        "activations/mid_attn.fn": (320, 0, 5242880),
        "activations/ups.0.2.fn": (320, 0, 2621440),
        "activations/ups.1.2.fn": (320, 0, 5242880),
        "max_channel": (320, 0, 125440),
        "attention": (320, 0, 1310720),
        "attention_sum": (320, 0, 1310720),
        "gradients.7e82a32f": (0, 320, 0),
        "volume": (320, 320, 35389440),
        "step_ssim": (16000, 0, 64000),
        "label_ssim": (336, 0, 5376),
        "trajectory.null": (0, 0, 0),
        "layer_distance": (304, 0, 7296),
        "label_distance": (320, 0, 5120),
        "layer_gradients/downs.0.2.fn": (320, 0, 20971520),
        "layer_gradients/downs.1.2.fn": (320, 0, 10485760),
        "layer_gradients/downs.2.2.fn": (320, 0, 5242880),
        "layer_gradients/mid_attn.fn": (320, 0, 5242880),
        "layer_gradients/ups.0.2.fn": (320, 0, 2621440),
        "layer_gradients/ups.1.2.fn": (320, 0, 5242880),
        "gradient_channel": (320, 0, 15360),
        "influence": (320, 0, 103680),
        "step_ssim.null": (16000, 0, 64000),
        "label_ssim.null": (336, 0, 5376),
    },
    "ablation": {
        "trajectory": (4080, 34000, 50135040),
        "to_unablated": (4032, 0, 16128),
        "change": (4032, 0, 32256),
        "reference.sum.face.f7ab5aaf": (8, 0, 256),
        "trajectory.null": (0, 0, 0),
        "to_unablated.null": (4032, 0, 16128),
        "change.null": (4032, 0, 32256),
    },
    "label-switch": {
        "trajectory": (968, 44080, 11894784),
        "to_original": (880, 0, 3520),
        "trajectory.null": (0, 0, 0),
        "to_original.null": (880, 0, 3520),
    },
    "gradient-volume": {
        "trajectory": (82, 2000, 1007616),
        "volume": (8, 8, 884736),
        "pull": (8, 8, 32768),
        "energy": (8, 8, 32768),
        "influence": (8, 0, 2592),
    },
    "sweep": {
        "trajectory": (5010000, 10000000, 1282560000),
        "step_ssim": (10000000, 0, 40000000),
        "step_mse": (10000000, 0, 40000000),
        "trajectory.null": (0, 0, 0),
        "step_ssim.null": (10000000, 0, 40000000),
        "step_mse.null": (10000000, 0, 40000000),
    },
    "diffusers-ddpm": {
        "trajectory": (84, 4000, 258048),
        "predicted_x0": (80, 0, 245760),
        "activations/mid_block": (40, 0, 327680),
        "attention": (80, 0, 81920),
        "step_ssim": (4000, 0, 16000),
        "trajectory.null": (0, 0, 0),
        "step_ssim.null": (4000, 0, 16000),
    },
    "dit": {
        "trajectory": (408, 800, 417792),
        "activations/transformer_blocks.0": (40, 0, 40960),
        "activations/transformer_blocks.1": (40, 0, 40960),
        "attention_maps/transformer_blocks.0.attn1": (16, 0, 16384),
        "labels_ssim": (408, 0, 3264),
        "trajectory.null": (0, 0, 0),
        "labels_ssim.null": (408, 0, 3264),
    },
    "stable-diffusion": {
        "trajectory": (416, 816, 425984),
        "decoded": (48, 0, 147456),
        "word_maps": (80, 0, 327680),
        "activations/mid_block": (40, 0, 163840),
        "labels_ssim": (416, 0, 3328),
        "trajectory.null": (0, 0, 0),
        "labels_ssim.null": (416, 0, 3328),
    },
}


FOLDERS = {
    "diffusers-ddpm": "UNet2DModel",
    "dit": "DiTTransformer2DModel",
    "stable-diffusion": "UNet2DConditionModel",
}
"""Pipelines for a folder of one's own, and the family of the small one they are planned with here."""


@pytest.mark.parametrize("name", sorted(GOLDEN_PLANS))
def test_shipped_pipelines_plan_what_they_always_did(name):
    overrides = [f"model={saved_folders.folder(FOLDERS[name])}"] if name in FOLDERS else []
    shares = project(assembled(name, overrides=overrides), None).plan.shares
    assert {
        stage: (share.cells, share.forwards, share.bytes) for stage, share in shares.items()
    } == GOLDEN_PLANS[name]


def test_every_shipped_pipeline_has_a_golden_plan():
    from flowprofile.definitions import shipped

    assert {path.stem for path in shipped("pipelines").glob("*.toml")} == set(GOLDEN_PLANS)
