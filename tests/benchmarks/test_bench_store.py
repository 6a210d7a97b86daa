"""The store's benchmark runs once on its smallest shapes."""

from benchmarks.bench_store import rows


def test_the_store_benchmark_runs() -> None:
    found = rows(tiny=True)
    assert len(found) >= 5
    assert all(row.measured > 0 and row.target for row in found)
