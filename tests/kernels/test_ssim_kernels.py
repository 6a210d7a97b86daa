"""Kernels have the definition's values, and the same bits through NumPy and through torch."""

import numpy as np
import pytest
import torch

from flowprofile.kernels import pointwise, ssim
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


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_device_gives_the_same_bits():
    frames = film()
    there = ssim.ssim_consecutive(frames.cuda(), data_range=2.0).cpu()
    assert np.array_equal(there.numpy(), ssim.ssim_consecutive(frames, data_range=2.0).numpy())
    assert torch.equal(
        pointwise.mse(frames[0].cuda(), frames[1].cuda()).cpu(), pointwise.mse(frames[0], frames[1])
    )
