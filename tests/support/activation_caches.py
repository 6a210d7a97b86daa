"""Caches of activations as other programs leave them, small."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

TIMES = (801, 601, 401, 201, 1)


def activations(cases: int, *, seed: int = 0, dtype: str = "float16", shape=(16, 6)) -> np.ndarray:
    """[case time token channel]"""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((cases, len(TIMES), *shape)).astype(dtype)


def rows_of(values: np.ndarray, times: Sequence[int] = TIMES) -> tuple[np.ndarray, np.ndarray]:
    """Rows as SAeUron makes them: an image's timesteps one after the other."""
    return values.reshape(-1, *values.shape[2:]), np.tile(np.array(times, np.uint16), len(values))


def save_dataset(
    folder: Path, rows: np.ndarray, steps: np.ndarray, *, shards: int = 1, batch: int = 3
) -> Path:
    """What `Dataset.save_to_disk` leaves: streams of Arrow record batches, and a state that names them."""
    folder.mkdir(parents=True)
    extension = {
        "ARROW:extension:name": "datasets.features.features.Array2DExtensionType",
        "ARROW:extension:metadata": json.dumps([list(rows.shape[1:]), str(rows.dtype)]),
    }
    kind = pa.list_(pa.list_(pa.from_numpy_dtype(rows.dtype)))
    schema = pa.schema(
        [pa.field("activations", kind, metadata=extension), pa.field("timestep", pa.uint16())],
        metadata={"huggingface": "{}"},
    )
    files = []
    for number, part in enumerate(np.array_split(np.arange(len(rows)), shards)):
        files.append({"filename": f"data-{number:05d}-of-{shards:05d}.arrow"})
        with (
            pa.OSFile(str(folder / files[-1]["filename"]), "wb") as sink,
            pa.ipc.new_stream(sink, schema) as writer,
        ):
            for at in range(0, len(part), batch):
                some = part[at : at + batch]
                columns = [nested(rows[some]), pa.array(steps[some], pa.uint16())]
                writer.write_batch(pa.record_batch(columns, schema=schema))
    state = {"_data_files": files, "_fingerprint": "0", "_format_columns": None, "_split": None}
    (folder / "state.json").write_text(json.dumps(state))
    (folder / "dataset_info.json").write_text("{}")
    return folder


def nested(rows: np.ndarray) -> pa.Array:
    """Lists of lists of numbers."""
    count, outer, inner = rows.shape
    lists = pa.ListArray.from_arrays(
        pa.array(np.arange(0, count * outer * inner + 1, inner), pa.int32()), pa.array(rows.reshape(-1))
    )
    return pa.ListArray.from_arrays(pa.array(np.arange(0, count * outer + 1, outer), pa.int32()), lists)
