"""The benchmark of capture runs on a network of a few thousand weights, with nnsight and without."""

from benchmarks import bench_capture


def test_capture_is_measured_and_what_is_left_out_is_said(capsys):
    rows = bench_capture.rows(tiny=True)
    names = [row.name for row in rows]
    assert sum("peak memory" in name for name in names) == 1
    assert all(row.measured >= 0 and row.low <= row.measured <= row.high for row in rows)
    told = capsys.readouterr().err
    if bench_capture.installed():
        (apart,) = (row for row in rows if row.name.startswith("tensors that differ"))
        assert apart.measured == 0
    else:
        assert "nnsight is not installed" in told
        assert f"nnsight=={bench_capture.NNSIGHT}" in told
        assert not [name for name in names if "nnsight" in name]


def test_tensors_that_differ_are_counted():
    import torch

    one = [{"a": torch.zeros(2), "b": torch.ones(2)}, {"a": torch.zeros(2), "b": torch.ones(2)}]
    other = [{"a": torch.zeros(2), "b": torch.ones(2)}, {"a": torch.zeros(2), "b": torch.zeros(2)}]
    assert bench_capture._apart(one, one, 4) == 0
    assert bench_capture._apart(one, other, 4) == 1
