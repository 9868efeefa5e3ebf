"""Figures at a rate between measured points, by the command."""

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "scripts" / "compare_at_rates.py"


def run(*arguments):
    return subprocess.run([sys.executable, SCRIPT, *arguments], capture_output=True, text=True, timeout=120)


def curves(folder):
    bpp = [0.25, 0.5, 1.0]
    straight = {"bpp": bpp, "psnr-rgb": [30.0, 32.0, 34.0], "ms-ssim-rgb": [0.9, 0.99, 0.999]}
    short = {"bpp": bpp[1:], "psnr-rgb": [31.0, 33.0], "ms-ssim-rgb": [0.95, 0.97]}
    path = folder / "some.json"
    records = [{"name": "straight", "results": straight}, {"name": "short", "results": short}]
    path.write_text(json.dumps({"codecs": records}))
    return path


def test_measured_points_are_met_and_nothing_is_extrapolated(tmp_path):
    done = run(f"--results={curves(tmp_path)}", "--rates=0.25,0.3535534,1")
    assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:] for line in done.stdout.splitlines()[1:]}
    # 0.354 is halfway between 1/4 and 1/2 in the logarithm, and both measures are straight lines in dB.
    assert rows["straight"][:6] == ["30.00", "31.00", "34.00", "0.9000", "0.9684", "0.9990"]
    assert rows["short"] == ["-", "-", "33.00", "-", "-", "0.9700", "-"]


def test_wrong_flags_and_files_end_in_a_sentence(tmp_path):
    some = f"--results={curves(tmp_path)}"
    for flags, said in (
        ((some, "--rates=a"), "--rates wants numbers"),
        ((some, "--rates=1,0.5"), "ascending"),
        ((some, "--codecs=other"), "no curve is named other"),
        ((f"--results={tmp_path / 'none.json'}",), "cannot be read"),
    ):
        done = run(*flags)
        assert done.returncode == 1
        assert said in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
