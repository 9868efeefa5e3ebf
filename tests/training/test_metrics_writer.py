import json

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from jaxcodec.training.metrics_writer import MetricsWriter


def lines_of(text):
    return [json.loads(line) for line in text.splitlines()]


def test_lines_are_appended_as_json_also_by_a_second_writer(tmp_path):
    folder = tmp_path / "new" / "folder"
    MetricsWriter(folder).write(10, {"loss": 1.5})
    MetricsWriter(folder, resumed_at=10).write(20, {"loss": 1.25, "bpp": 0.5})
    lines = lines_of((folder / "metrics.jsonl").read_text())
    assert lines == [{"step": 10, "loss": 1.5}, {"step": 20, "loss": 1.25, "bpp": 0.5}]


def test_steps_that_will_be_run_again_and_half_lines_are_dropped(tmp_path):
    writer = MetricsWriter(tmp_path)
    for step in (10, 20, 30):
        writer.write(step, {"loss": 1.0 / step})
    path = tmp_path / "metrics.jsonl"
    path.write_text(path.read_text() + '{"step": 1')
    MetricsWriter(tmp_path, resumed_at=20)
    assert [line["step"] for line in lines_of(path.read_text())] == [10, 20]
    MetricsWriter(tmp_path)
    assert path.read_text() == ""


class Bucket(MemoryFileSystem):
    """What stands in for Google's storage: files that can be written whole, and not appended to."""

    store = {}  # noqa: RUF012
    pseudo_dirs = [""]  # noqa: RUF012

    def _open(self, path, mode="rb", **options):
        assert "a" not in mode
        return super()._open(path, mode, **options)


@pytest.fixture
def bucket():
    fsspec.register_implementation("gcs", Bucket, clobber=True)
    return Bucket()


def test_metrics_go_to_a_bucket_and_grow_over_restarts(bucket):
    for resumed_at, step in ((0, 10), (10, 20), (20, 30)):
        with MetricsWriter("gs://bucket/run", resumed_at=resumed_at) as writer:
            writer.write(step, {"loss": 1.0})
            if step == 30:
                writer.flush()
                written = lines_of(bucket.cat("gs://bucket/run/metrics.jsonl").decode())
                assert [line["step"] for line in written] == [10, 20, 30]
