"""Kernels have the definition's values, and the same bits through NumPy and through torch."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from flowprofile.errors import DefinitionError
from flowprofile.kernels import fused, loops, pointwise, ssim
from flowprofile.measures import images, windows
from flowprofile.time.noise import noise


def film() -> torch.Tensor:
    return torch.from_numpy(0.5 + 0.2 * noise(1, 1, (3, 5, 3, 16, 16)).cumsum(axis=1))


def test_consecutive_reference_and_pairs_are_the_definition():
    frames = film()
    consecutive = ssim.ssim_consecutive(frames, data_range=2.0)
    wanted = images.ssim(frames[:, :-1].numpy(), frames[:, 1:].numpy(), data_range=2.0)
    assert consecutive.dtype == torch.float64
    assert consecutive.numpy() == pytest.approx(wanted, rel=1e-10)
    wanted = images.ssim(frames.numpy(), frames[:, :1].numpy(), data_range=2.0)
    assert ssim.ssim_to(frames, frames[:, 0], data_range=2.0).numpy() == pytest.approx(wanted, rel=1e-10)
    wanted = images.ssim(frames[:, [0]].numpy(), frames[:, [4]].numpy(), data_range=2.0)
    assert ssim.ssim_between(frames, [(0, 4)], data_range=2.0).numpy() == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("window", [3, 7, 11])
def test_torch_and_numpy_run_the_same_lines_to_the_same_bits(window: int):
    frames = film()
    options = {"window": window, "data_range": 2.0}
    in_torch = windows.consecutive(frames, **options, lib=torch)
    assert in_torch.numpy().tobytes() == windows.consecutive(frames.numpy(), **options).tobytes()
    in_torch = windows.to_reference(frames, frames[:, 2], **options, lib=torch)
    in_numpy = windows.to_reference(frames.numpy(), frames[:, 2].numpy(), **options)
    assert in_torch.numpy().tobytes() == in_numpy.tobytes()


def test_running_ssim_follows_a_loop():
    frames = film()
    running = ssim.RunningSsim(frames[:, 0], data_range=2.0)
    values = [running.push(frames[:, k]) for k in range(5)]
    assert values[0] is None
    assert torch.equal(torch.stack(values[1:], dim=1), ssim.ssim_consecutive(frames, data_range=2.0))


def test_pointwise_kernels_are_the_definition_bit_for_bit():
    one, other = film()[0], film()[1]
    assert torch.equal(pointwise.mse(one, other), torch.from_numpy(images.mse(one.numpy(), other.numpy())))
    assert torch.equal(pointwise.l1(one, other), torch.from_numpy(images.l1(one.numpy(), other.numpy())))
    decibels = images.psnr(one.numpy(), other.numpy(), data_range=1.0)
    assert pointwise.psnr(one, other, data_range=1.0).numpy() == pytest.approx(decibels, rel=1e-14)


def test_a_tensor_that_wants_gradients_is_measured_all_the_same():
    frames = film().requires_grad_()
    assert not ssim.ssim_consecutive(frames, data_range=2.0).requires_grad
    assert not pointwise.mse(frames, frames).requires_grad


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_what_is_not_a_number_is_nan(wrong: float):
    frames = film()
    frames[0, 1, 2, 3, 4] = wrong
    assert torch.isnan(ssim.ssim_consecutive(frames, data_range=2.0)[0, :2]).all()
    assert torch.isnan(windows.consecutive(frames, data_range=2.0, lib=torch)[0, :2]).all()
    for measure in (pointwise.mse, pointwise.l1):
        values = measure(frames[:, 0], frames[:, 1])
        assert torch.isnan(values).tolist() == [True, False, False]


PAIRS = [(0, 1), (1, 2), (2, 2), (2, 0), (0, 1)]


def odd_films() -> dict[str, np.ndarray]:
    """What running sums and one-pass variances are afraid of."""
    plain = film().numpy()
    grid = np.indices((16, 16)).sum(axis=0) % 2
    wide = np.concatenate([noise(2, 2, (2, 4, 1, 33, 7)), noise(2, 2, (2, 4, 1, 33, 7)) * 1e-3], axis=-1)
    return {
        "as sampled": plain,
        "float64": plain.astype(np.float64) ** 3,
        "many exponents": plain**7,
        "constant": np.full((2, 3, 3, 16, 16), 0.5, np.float32),
        "zero": np.zeros((1, 3, 1, 7, 7), np.float32),
        "nearly equal": np.repeat(plain[:, :1], 4, axis=1) + np.float32(1e-6) * plain[:, :4],
        "far from zero": plain + np.float32(1e3),
        "tiny": plain * np.float32(1e-20),
        "chessboards": np.stack([grid, 1 - grid, grid * 0.5], axis=0).astype(np.float32)[None, :, None],
        "oblong": wide,
    }


@pytest.fixture
def compiled() -> None:
    if not fused.available():
        pytest.skip("numba is not installed")
    for kind in (np.float32, np.float64):
        assert fused.prepare(kind), "the loops did not compile to NumPy's bits"


@pytest.mark.parametrize("name", odd_films())
@pytest.mark.usefixtures("compiled")
def test_the_fused_kernel_has_the_bits_of_the_definition(name: str):
    frames = odd_films()[name]
    options = {"data_range": 2.0}
    assert fused.consecutive(frames, **options).tobytes() == windows.consecutive(frames, **options).tobytes()
    fused_to, to = (f(frames, frames[:, -1], **options) for f in (fused.to_reference, windows.to_reference))
    assert fused_to.tobytes() == to.tobytes()
    between = fused.between(frames, PAIRS, **options)
    assert between.tobytes() == windows.between(frames, PAIRS, **options).tobytes()


@pytest.mark.parametrize("name", odd_films())
@pytest.mark.usefixtures("compiled")
def test_the_fused_kernel_is_skimage(name: str):
    frames = odd_films()[name]
    wanted = [
        structural_similarity(*row[k : k + 2].astype(np.float64), data_range=2.0, channel_axis=0)
        for row in frames
        for k in range(frames.shape[1] - 1)
    ]
    got = fused.consecutive(frames, data_range=2.0).ravel()
    # One-pass variances lose (offset / spread)^2 of float64, in skimage's formula as in ours.
    assert got == pytest.approx(wanted, rel=1e-8 if name == "far from zero" else 1e-10)


@pytest.mark.usefixtures("compiled")
def test_a_fused_value_does_not_depend_on_its_company():
    frames = film().numpy()
    whole = fused.consecutive(frames, data_range=2.0)
    assert fused.consecutive(frames[1], data_range=2.0).tobytes() == whole[1].tobytes()
    backwards = np.flip(frames, axis=0)
    backwards.flags.writeable = False
    assert fused.consecutive(backwards, data_range=2.0)[::-1].tobytes() == whole.tobytes()
    for cut in (1, 2, 3):
        first, rest = frames[:, : cut + 1], frames[:, cut:]
        parts = [fused.consecutive(part, data_range=2.0) for part in (first, rest)]
        assert np.concatenate(parts, axis=1).tobytes() == whole.tobytes()


@pytest.mark.usefixtures("compiled")
def test_compiled_loops_are_what_the_fused_functions_call(monkeypatch):
    monkeypatch.setattr(windows, "consecutive", None)
    assert fused.consecutive(film().numpy(), data_range=2.0).shape == (3, 4)
    assert ssim.ssim_consecutive(film(), data_range=2.0).shape == (3, 4)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_loops_as_they_are_have_the_bits_too(kind: type):
    """Without a compiler: what is compiled is the definition, line by line."""
    # Powers, because sums of like float32 numbers are exact in float64, in whatever order they are added.
    frames = (film().numpy()[:2, :3].astype(np.float64) ** 7).astype(kind)
    plain = getattr(loops.compare, "py_func", loops.compare)
    pairs = np.array([(0, 1), (1, 2)])
    found = fused._compare(plain, frames, np.array([0, 1, 0]), pairs, 2.0)
    assert found.tobytes() == windows.consecutive(frames, data_range=2.0).tobytes()


def test_a_small_run_waits_for_no_compiler(monkeypatch):
    monkeypatch.setattr(fused, "_seen", dict.fromkeys(fused._TYPES, 0))
    monkeypatch.setattr(fused, "_RENT", 2 * film().numel())
    asked = []
    monkeypatch.setattr(fused, "_loops", asked.append)
    for _ in range(3):
        fused.consecutive(film().numpy(), data_range=2.0)
    assert asked == [np.dtype(np.float32)]


def test_what_has_no_loops_goes_to_the_definition():
    frames = film().numpy()
    for odd in (frames.astype(np.float16), frames.astype(">f4")):
        wanted = windows.consecutive(odd, data_range=2.0)
        assert fused.consecutive(odd, data_range=2.0).tobytes() == wanted.tobytes()
    wanted = windows.consecutive(frames, window=5, data_range=2.0)
    assert fused.consecutive(frames, window=5, data_range=2.0).tobytes() == wanted.tobytes()
    for wrong in ({"window": 4, "data_range": 2.0}, {"data_range": 0.0}):
        with pytest.raises(DefinitionError):
            fused.consecutive(frames, **wrong)
    with pytest.raises(DefinitionError, match="do not belong"):
        fused.to_reference(frames, frames[:2, 0], data_range=2.0)
    with pytest.raises(IndexError):
        fused.between(frames, [(0, 5)], data_range=2.0)
    backwards = windows.between(frames, [(0, -1)], data_range=2.0)
    assert fused.between(frames, [(0, -1)], data_range=2.0).tobytes() == backwards.tobytes()


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("wrong", [np.nan, -np.nan, np.inf])
def test_a_fused_value_that_is_not_a_number_is_nan(wrong: float):
    frames = film().numpy()
    clean = fused.consecutive(frames, data_range=2.0)
    frames[0, 1, 2, 3, 4] = wrong
    got = fused.consecutive(frames, data_range=2.0)
    assert np.isnan(got[0, :2]).all()
    assert not np.signbit(got[0, :2]).any()
    assert got[0, 2:].tobytes() == clean[0, 2:].tobytes()
    assert got[1:].tobytes() == clean[1:].tobytes()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_gives_the_same_bits():
    frames = film()
    there = ssim.ssim_consecutive(frames.cuda(), data_range=2.0).cpu()
    assert np.array_equal(there.numpy(), ssim.ssim_consecutive(frames, data_range=2.0).numpy())
    assert torch.equal(
        pointwise.mse(frames[0].cuda(), frames[1].cuda()).cpu(), pointwise.mse(frames[0], frames[1])
    )
