import json

from jaxcodec.training.metrics_writer import MetricsWriter


def test_lines_are_appended_as_json_also_by_a_second_writer(tmp_path):
    folder = tmp_path / "new" / "folder"
    MetricsWriter(folder).write(10, {"loss": 1.5})
    MetricsWriter(folder).write(20, {"loss": 1.25, "bpp": 0.5})
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert lines == [{"step": 10, "loss": 1.5}, {"step": 20, "loss": 1.25, "bpp": 0.5}]
