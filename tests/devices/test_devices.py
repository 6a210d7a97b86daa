"""Devices: runs on one in a process of their own, and what needs none."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from numbered import Numbered

from flowprofile import clusters
from flowprofile.flow.executors.drive import drive
from flowprofile.kernels.probing import in_any_place

AWAY = Path(__file__).with_name("on_a_device.py")


def test_on_a_device_without_hardware():
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(AWAY)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "9 passed" in done.stdout


@pytest.mark.parametrize("who", ["processes:2", "local:2"])
def test_workers_of_one_machine_are_numbered(who):
    lost = drive(clusters.executor(who), Numbered(), range(12), lambda event: None)
    assert {each.told for each in lost} <= {"number 0", "number 1"}
    assert len({each.told for each in lost}) == 2


def test_rows_that_depend_on_their_place_are_told():
    eps = torch.randn(4, 3, 2, 2)
    in_any_place(eps, eps.clone(), torch.device("meta"))
    with pytest.warns(RuntimeWarning, match="'meta'.*place in the batch"):
        in_any_place(eps, eps * (1 + 1e-6), torch.device("meta"))
