"""Gradient kernels have the exact Jacobians' values, and rows that know nothing of one another."""

import copy

import numpy as np
import pytest
import torch
from diffusers import UNet2DModel
from listening import hooks, still

from benchmarks import thesis
from flowprofile.errors import DefinitionError
from flowprofile.kernels import gradients
from flowprofile.models import zoo
from flowprofile.models.card import ModelCard
from flowprofile.models.denoiser import Guided, NetworkDenoiser
from flowprofile.models.layers import UNetConfig
from flowprofile.models.unet import UNet
from flowprofile.time.noise import noise
from flowprofile.time.rules import coefficients, rule
from flowprofile.time.schedule import linear

STEP = coefficients(rule("ddpm"), schedule=linear(), t_from=301, t_to=300)
FACTORS = (STEP.x, STEP.eps)
NETWORK_ONLY = {"factors": (0.0, 1.0), "identity": False}
LAYERS = ("init_conv", "downs.0.2.fn", "downs.0.2", "downs.1.3", "mid_attn.fn", "ups.0.2.fn", "final_conv")


def fixed(denoiser, *, index=300, label=1):
    """eps as a function of x alone, in any number of rows."""
    return lambda x: denoiser(
        x,
        torch.full((len(x),), index, device=x.device),
        torch.full((len(x),), label, device=x.device),
    )


def image(*shape):
    return torch.from_numpy(noise(3, 7, shape))


def everywhere(side):
    return torch.ones(side, side, dtype=torch.bool).nonzero()


def relative(found, wanted):
    return float((found.double() - wanted.double()).norm() / wanted.double().norm())


@pytest.fixture(scope="module")
def thin():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return still(UNet(UNetConfig(dim=8, mults=(1, 2), heads=2, head_dim=4)))


@pytest.fixture(scope="module")
def wide(thin):
    """The same in float64; the time embedding is float32 whatever the weights are."""
    network = copy.deepcopy(thin).double()
    network.time_mlp[0].register_forward_hook(lambda module, given, out: out.double())
    return network


@pytest.fixture(scope="module")
def diffusers_eps():
    """A U-Net of another house, with true attention."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        network = UNet2DModel(
            sample_size=8,
            block_out_channels=(16, 16),
            down_block_types=("DownBlock2D", "AttnDownBlock2D"),
            up_block_types=("AttnUpBlock2D", "UpBlock2D"),
            norm_num_groups=4,
            attention_head_dim=8,
            layers_per_block=1,
        )
    network = still(network)
    return lambda x: network(x, torch.full((len(x),), 300)).sample


@pytest.mark.parametrize(("name", "channels", "side"), [("gaussian8", 1, 8), ("mixture16", 1, 16)])
def test_rows_are_those_of_the_exact_jacobian(name, channels, side):
    model, pixels = zoo.load(name), everywhere(side)
    x = 0.5 + 0.4 * image(channels, side, side).double()
    index = torch.tensor([300])
    jacobian = model.jacobian(x[None], index, torch.zeros_like(index))[0].view(-1, side, side)
    eps = fixed(model, label=0)
    part = gradients.volume(eps, x, pixels=pixels, **NETWORK_ONLY)
    assert part.dtype == torch.float64
    assert relative(part, jacobian) < 1e-12
    identity = torch.eye(side * side, dtype=torch.float64).view(-1, side, side)
    for step in (STEP, coefficients(rule("ddim", eta=0.5), schedule=linear(), t_from=301, t_to=280)):
        whole = gradients.volume(eps, x, pixels=pixels, factors=(step.x, step.eps))
        assert relative(whole, step.x * identity + step.eps * jacobian) < 1e-12
    single = gradients.volume(eps, x.float(), pixels=pixels, **NETWORK_ONLY)
    assert single.dtype == torch.float32
    assert relative(single, jacobian) < 2e-5


def test_float32_follows_the_float64_reference(thin, wide):
    x, pixels = image(3, 16, 16), everywhere(16)[::7]
    single = gradients.volume(fixed(thin), x, pixels=pixels, **NETWORK_ONLY)
    double = gradients.volume(fixed(wide), x.double(), pixels=pixels, **NETWORK_ONLY)
    assert (single.dtype, double.dtype) == (torch.float32, torch.float64)
    assert relative(single, double) < 1e-5


def test_finite_differences_agree(wide):
    x, along, (y, x_) = image(3, 16, 16).double(), image(3, 16, 16).double(), (2, 5)
    places = torch.tensor([[y, x_]])
    row = gradients.volume(fixed(wide), x, pixels=places, factors=FACTORS, reduce="none")[0]

    def target(at):
        moved = x.add(along, alpha=at)
        step = STEP.x * moved + STEP.eps * fixed(wide)(moved[None])[0]
        return float(step[:, y, x_].sum())

    assert (target(1e-5) - target(-1e-5)) / 2e-5 == pytest.approx(float((row * along).sum()), rel=1e-8)


@pytest.mark.parametrize("name", ["digits", "faces32"])
def test_a_label_changes_the_rows_and_has_none(name):
    denoiser = zoo.load(name)
    colours, side, _ = denoiser.card.shape
    entered = []

    def eps(x, label):
        entered.append(torch.full((len(x),), label))
        return denoiser(x, torch.full((len(x),), 300), entered[-1])

    x, pixels = image(colours, side, side), torch.tensor([[3, 4]])
    one, two = (
        gradients.volume(lambda x, label=label: eps(x, label), x, pixels=pixels, factors=FACTORS, reduce="none")
        for label in (1, 2)
    )  # fmt: skip
    assert one.shape == (1, colours, side, side), "the colours of the image, and no plane of the label"
    assert not torch.equal(one, two)
    assert not any(label.requires_grad for label in entered)


@pytest.mark.parametrize("kind", ["ours", "theirs"])
def test_a_row_has_the_same_bits_in_any_company(kind, thin, diffusers_eps):
    eps, side = (fixed(thin), 16) if kind == "ours" else (diffusers_eps, 8)
    x = image(3, side, side)
    order = torch.from_numpy(np.random.default_rng(0).permutation(side * side)[:37])
    pixels = everywhere(side)[order]
    rows = gradients.volume(eps, x, pixels=pixels, factors=FACTORS, replicas=8)
    turned = gradients.volume(eps, x, pixels=pixels.flip(0), factors=FACTORS, replicas=8)
    assert torch.equal(rows, turned.flip(0))
    for number in (0, 11, 36):
        alone = gradients.volume(eps, x, pixels=pixels[number : number + 1], factors=FACTORS, replicas=8)
        assert torch.equal(alone[0], rows[number])


def test_every_call_has_the_same_number_of_rows(thin):
    seen = []

    def eps(x):
        seen.append(len(x))
        return fixed(thin)(x)

    x = image(3, 16, 16)
    for count in (1, 16, 17):
        gradients.volume(eps, x, pixels=everywhere(16)[:count], factors=FACTORS)
    gradients.energy(eps, x, pixels=everywhere(16), factors=FACTORS, probes=20)
    assert seen == [16, 16, 16, 16, 16]
    empty = gradients.volume(eps, x, pixels=everywhere(16)[:0], factors=FACTORS, reduce="none")
    assert empty.shape == (0, 3, 16, 16)
    assert len(seen) == 5


def test_reductions_are_taken_after_the_identity_is_added(thin):
    x, pixels = image(3, 16, 16), everywhere(16)[100:105]
    rows = {
        reduce: gradients.volume(fixed(thin), x, pixels=pixels, factors=FACTORS, reduce=reduce)
        for reduce in ("sum", "abs", "l2", "none")
    }
    network = gradients.volume(fixed(thin), x, pixels=pixels, factors=FACTORS, reduce="none", identity=False)
    added = rows["none"] - network
    assert added[2, :, pixels[2, 0], pixels[2, 1]].tolist() == pytest.approx([STEP.x] * 3)
    assert float(added.abs().sum()) == pytest.approx(5 * 3 * STEP.x)
    assert torch.equal(rows["sum"], rows["none"].sum(1))
    assert torch.equal(rows["abs"], rows["none"].abs().sum(1))
    assert torch.equal(rows["l2"], rows["none"].square().sum(1).sqrt())


def test_the_sum_of_a_masks_rows_takes_one_backward(thin, wide):
    states = torch.from_numpy(noise(0, 0, (2, 3, 16, 16)))
    masks = torch.from_numpy(noise(1, 1, (2, 16, 16)) > 0.8)
    for network, dtype, near in ((thin, torch.float32, 5e-6), (wide, torch.float64, 1e-13)):
        x = states.to(dtype)
        together = gradients.signed_sum(fixed(network), x, masks, factors=FACTORS, identity=False)
        whole = gradients.signed_sum(fixed(network), x, masks, factors=FACTORS)
        for row in range(2):
            options = {"pixels": masks[row].nonzero(), "factors": FACTORS}
            rows = gradients.volume(fixed(network), x[row], **options, identity=False)
            # float32 has that much round-off of its own: the rows partly cancel.
            assert relative(together[row], rows.sum(0)) < near
            assert relative(whole[row], gradients.volume(fixed(network), x[row], **options).sum(0)) < near


def test_the_thesis_passes_agree_and_its_defects_do_not(thin):
    x, mask = image(3, 16, 16), torch.zeros(16, 16, dtype=torch.bool)
    mask[4:7, 5:9] = True
    step = thesis.Step(thin, x, 300, 1, FACTORS)
    ours = gradients.volume(fixed(thin), x, pixels=mask.nonzero(), factors=FACTORS)
    assert relative(thesis.volume(step, mask), ours) < 1e-6
    assert relative(thesis.volume(step, mask * 255, defects=thesis.Defects(strokes=True)), 255 * ours) < 1e-6
    with_label = thesis.volume(step, mask, defects=thesis.Defects(label_plane=True))
    assert relative(with_label, ours) > 1e-4, (
        "the label's plane has a gradient, and none of it is in the rows"
    )
    assert not any(parameter.requires_grad for parameter in thin.parameters())
    assert hooks(thin) == 0


def test_a_pixel_of_value_zero_keeps_its_row(thin):
    x, mask = image(3, 16, 16), torch.zeros(16, 16, dtype=torch.bool)
    mask[4, 5:9] = True
    bare = thesis.Step(thin, x, 300, 1, FACTORS)
    with torch.no_grad():
        before = bare.image(x[None])[0]
    added = torch.zeros_like(x)
    added[:, 4, 6] = -before[:, 4, 6]
    step = thesis.Step(thin, x, 300, 1, FACTORS, added)
    lost = thesis.volume(step, mask, defects=thesis.Defects(by_value=True))
    rows = gradients.volume(fixed(thin), x, pixels=mask.nonzero(), factors=FACTORS)
    assert len(lost) == 3
    assert len(rows) == 4
    assert relative(thesis.volume(step, mask), rows) < 1e-6
    # The input's own value means nothing either.
    zero = x.clone()
    zero[:, 4, 6] = 0
    kept = gradients.volume(fixed(thin), zero, pixels=torch.tensor([[4, 6]]), factors=FACTORS)
    assert float(kept.abs().max()) > 0.5


def test_one_backward_has_every_layers_gradient(thin, wide):
    mask = torch.zeros(16, 16, dtype=torch.bool)
    mask[4:7, 5:9] = True
    states = torch.from_numpy(noise(0, 0, (2, 3, 16, 16)))
    for network, dtype, near in ((thin, torch.float32, 5e-6), (wide, torch.float64, 1e-13)):
        x, before = states.to(dtype), hooks(network)
        options = {"model": network, "layers": LAYERS, "factors": FACTORS}
        found = gradients.layer_gradients(fixed(network), x, mask, **options)
        assert hooks(network) == before
        for row in range(2):
            wanted = thesis.layer_gradients(thesis.Step(network, x[row], 300, 1, FACTORS), mask, LAYERS)
            assert list(found) == list(wanted)
            for layer in LAYERS:
                assert relative(found[layer][row], wanted[layer][0]) < near, layer
        # A branch and the sum it enters have the same gradient; an Identity's skip would show as a difference.
        assert torch.equal(found["downs.0.2.fn"], found["downs.0.2"])


def test_a_layer_nothing_depends_on_has_no_pull_and_one_that_never_runs_is_refused(thin):
    network = torch.nn.ModuleDict({"used": torch.nn.Conv2d(1, 1, 3, padding=1), "aside": torch.nn.Identity()})
    network["idle"] = torch.nn.Identity()
    x, mask = image(2, 1, 8, 8), torch.ones(8, 8, dtype=torch.bool)

    def eps(x):
        network["aside"](x)
        return network["used"](x)

    options = {"model": still(network), "factors": FACTORS}
    found = gradients.layer_gradients(eps, x, mask, layers=["used", "aside"], **options)
    assert not found["aside"].any()
    assert found["used"].tolist() == torch.full((2, 1, 8, 8), STEP.eps).tolist()
    with pytest.raises(DefinitionError, match="'idle' did not run"):
        gradients.layer_gradients(eps, x, mask, layers=["idle"], **options)
    assert gradients.layer_gradients(eps, x, mask, layers=[], **options) == {}


def test_under_guidance_the_guided_eps_is_differentiated():
    digits = zoo.load("digits")
    guided, side = Guided(digits, 3.0), digits.card.shape[1]
    x, pixels = image(*digits.card.shape), everywhere(side)[[30, 60]]
    found = gradients.volume(fixed(guided), x, pixels=pixels, **NETWORK_ONLY)
    own, null = (
        gradients.volume(fixed(digits, label=label), x, pixels=pixels, **NETWORK_ONLY)
        for label in (1, digits.card.null_label)
    )
    assert relative(found, 3.0 * own - 2.0 * null) < 1e-5
    layer = gradients.layer_gradients(
        fixed(guided), x[None], torch.ones(side, side, dtype=torch.bool), model=guided,
        layers=["mid_attn.fn"], factors=FACTORS,
    )["mid_attn.fn"]  # fmt: skip
    plain = gradients.layer_gradients(
        fixed(digits), x[None], torch.ones(side, side, dtype=torch.bool), model=digits,
        layers=["mid_attn.fn"], factors=FACTORS,
    )["mid_attn.fn"]  # fmt: skip
    assert relative(layer, 3.0 * plain) < 1e-5


@pytest.fixture(scope="module")
def faces():
    """A step of a trained network close to the image, where rows of neighbours are alike."""
    eps, x = fixed(zoo.load("faces32"), index=40), 0.5 + 0.1 * image(3, 32, 32)
    pixels = everywhere(32)[::4]
    rows = gradients.volume(eps, x, pixels=pixels, **NETWORK_ONLY)
    return eps, x, pixels, rows.double()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_eight_probes_show_the_energy_of_256_rows(faces, seed):
    eps, x, pixels, rows = faces
    exact = rows.square().sum(0)
    found = gradients.energy(eps, x, pixels=pixels, **NETWORK_ONLY, probes=8, seed=seed, replicas=8)
    together = torch.stack([found.double().sqrt().flatten(), exact.sqrt().flatten()])
    assert float(torch.corrcoef(together)[0, 1]) > 0.99
    assert float(found.sum() / exact.sum()) == pytest.approx(1, abs=0.02)


def test_energy_with_the_identity_is_the_energy_of_whole_rows(faces):
    eps, x, pixels, rows = faces
    c_x, c_eps = 1.01, -0.3
    whole = c_eps * rows
    whole[torch.arange(256), pixels[:, 0], pixels[:, 1]] += 3 * c_x
    options = {"pixels": pixels, "factors": (c_x, c_eps), "probes": 8, "replicas": 8}
    found = gradients.energy(eps, x, **options)
    assert float(found.sum()) == pytest.approx(float(whole.square().sum()), rel=0.02)
    own = (pixels[:, 0], pixels[:, 1])
    assert relative(found[own], whole.square().sum(0)[own]) < 0.1


def test_energy_is_a_function_of_the_seed_and_the_set_of_pixels(thin):
    x, pixels = image(3, 16, 16), everywhere(16)[::3]

    def found(pixels, seed=0, probes=8):
        options = {"factors": FACTORS, "replicas": 8}
        return gradients.energy(fixed(thin), x, pixels=pixels, seed=seed, probes=probes, **options)

    assert torch.equal(found(pixels), found(torch.cat([pixels.flip(0), pixels[:4]])))
    assert not torch.equal(found(pixels), found(pixels, seed=1))
    # A pixel's own row alone is known exactly after one probe, whatever its sign.
    row = gradients.volume(fixed(thin), x, pixels=pixels[5:6], factors=FACTORS, replicas=8)[0]
    assert relative(found(pixels[5:6], probes=1), row.square()) < 1e-5


@pytest.mark.parametrize("probes", [1, 5, 8, 12, 16])
def test_signs_cancel_exactly_between_neighbours(probes):
    inside = np.zeros((9, 12), dtype=bool)
    inside[1:, 2:11] = True
    signs = gradients._signs(4, probes, inside)
    assert signs.shape == (probes, 9, 12)
    assert np.array_equal(np.abs(signs).astype(bool), np.broadcast_to(inside, signs.shape))
    products = np.einsum("pyx,puv->yxuv", signs, signs)
    assert all(products[y, x, y, x] == probes for y, x in np.argwhere(inside))
    if probes >= 8:
        below = sum(
            abs(products[y, x, y + 1, x]) + abs(products[y, x, y, x + 1]) for y, x in ((3, 4), (4, 7))
        )
        assert below == 0
    assert abs(signs[0][inside].mean()) < 0.4


def test_any_mode_of_the_caller_gives_the_same_bits(thin):
    x, pixels = image(3, 16, 16), everywhere(16)[:3]
    plain = gradients.volume(fixed(thin), x, pixels=pixels, factors=FACTORS, replicas=8)
    with torch.no_grad():
        assert torch.equal(
            gradients.volume(fixed(thin), x, pixels=pixels, factors=FACTORS, replicas=8), plain
        )
    with torch.inference_mode():
        turned = x.permute(1, 2, 0).contiguous().permute(2, 0, 1)
        assert torch.equal(
            gradients.volume(fixed(thin), turned, pixels=pixels, factors=FACTORS, replicas=8), plain
        )
    thin.requires_grad_(requires_grad=True)
    asking = gradients.volume(fixed(thin), x, pixels=pixels, factors=FACTORS, replicas=8)
    assert all(parameter.grad is None for parameter in thin.parameters())
    still(thin)
    assert torch.equal(asking, plain)
    assert not plain.requires_grad


def test_low_precision_is_scaled_and_added_in_float32(thin):
    x, pixels = image(3, 16, 16), everywhere(16)[:3]
    card = ModelCard("half", "module", {}, (3, 16, 16), zoo.card("faces32").labels)
    half = NetworkDenoiser(lambda x, index, label: thin(x.float(), index, label).to(x.dtype), card)
    single = gradients.volume(fixed(thin), x.bfloat16().float(), pixels=pixels, factors=FACTORS)
    found = gradients.volume(fixed(half), x.bfloat16(), pixels=pixels, factors=FACTORS)
    assert found.dtype == torch.float32
    own = (torch.arange(3), pixels[:, 0], pixels[:, 1])
    assert found[own].tolist() == pytest.approx(single[own].tolist(), abs=1e-4)


def test_memory_is_projected_without_computing(thin):
    from torch.profiler import ProfilerActivity, profile

    x, pixels = image(3, 32, 32), everywhere(32)[:40]
    with torch.device("meta"):
        ghost = still(UNet(thin.config))
    projected = gradients.memory_bytes(fixed(ghost), x.to("meta"), pixels=40)
    assert projected == gradients.memory_bytes(fixed(thin), x, pixels=40)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as measured:
        gradients.volume(fixed(thin), x, pixels=pixels, factors=FACTORS)
    events = [one for one in measured.profiler.kineto_results.events() if one.name() == "[memory]"]
    changes = [one.nbytes() for one in sorted(events, key=lambda one: one.start_ns())]
    assert 0.6 * projected < np.cumsum(changes).max() <= projected


@pytest.mark.parametrize("wrong", [[[-1, 0]], [[0, 16]], [[0, 0, 0]]])
def test_a_place_outside_the_image_is_refused(thin, wrong):
    with pytest.raises(DefinitionError, match=r"not in an image|not as int64"):
        gradients.volume(fixed(thin), image(3, 16, 16), pixels=torch.tensor(wrong), factors=FACTORS)


def test_strokes_are_no_mask(thin):
    strokes = torch.full((16, 16), 255)
    with pytest.raises(DefinitionError, match=r"strokes > 0"):
        gradients.signed_sum(fixed(thin), image(1, 3, 16, 16), strokes, factors=FACTORS)


def test_an_eps_without_a_graph_or_of_another_shape_is_refused(thin):
    options = {"pixels": everywhere(16)[:1], "factors": FACTORS}
    with pytest.raises(DefinitionError, match="has no graph"):
        gradients.volume(lambda x: fixed(thin)(x).detach(), image(3, 16, 16), **options)
    with pytest.raises(DefinitionError, match=r"has the shape \[16, 6, 16, 16\]"):
        gradients.volume(lambda x: torch.cat([x, x], 1), image(3, 16, 16), **options)
