"""The command as a whole: help, version, exit codes, what it imports, signals and pipes."""

import os
import subprocess

import pytest

from jaxcodec.version import __version__

COMMANDS = ("encode", "decode", "info", "list", "bench", "demo")


def test_help_version_and_list_import_neither_jax_nor_pillow(in_subprocess):
    program = (
        "import sys; from jaxcodec.cli import main\n"
        "codes = [main(['--help']), main(['--version']), main(['encode', '--help']), main(['list'])]\n"
        "print(codes, sorted({'jax', 'jaxlib', 'flax', 'PIL'} & set(sys.modules)))"
    )
    result = in_subprocess("-c", program)
    assert result.stderr == b""
    lines = result.stdout.decode().splitlines()
    assert lines[-1] == "[0, 0, 0, 0] []"
    assert f"jaxcodec {__version__}" in lines


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_each_command_shows_examples(command, jaxcodec):
    code, out, _ = jaxcodec(command, "--help")
    assert code == 0
    assert f"examples:\n  jaxcodec {command}" in out


def test_help_names_every_command(jaxcodec):
    code, out, _ = jaxcodec("--help")
    assert code == 0
    assert all(f"\n    {command} " in out for command in COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [(), ("encod", "x.png"), ("encode",), ("encode", "x.png", "--qual", "3"), ("decode", "x", "-z")],
)
def test_wrong_usage_exits_with_2_and_explains(arguments, jaxcodec):
    code, out, err = jaxcodec(*arguments)
    assert code == 2
    assert out == ""
    assert "usage: jaxcodec" in err


def test_an_interrupt_exits_with_130_and_one_line(in_subprocess):
    program = (
        "import os, signal, sys; from jaxcodec.cli import main\n"
        "reader, writer = os.pipe(); os.dup2(reader, 0)\n"  # a stdin that never ends
        "signal.signal(signal.SIGALRM, signal.default_int_handler)\n"
        "signal.setitimer(signal.ITIMER_REAL, 1.0)\n"
        "sys.exit(main(['encode', '-', '--codec', 'jpeg']))"
    )
    result = in_subprocess("-c", program)
    assert (result.returncode, result.stdout, result.stderr) == (130, b"", b"jaxcodec: interrupted\n")


def test_a_reader_that_has_gone_is_no_traceback(in_subprocess):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as stdout:
        result = in_subprocess("-m", "jaxcodec.cli", "list", stdout=stdout, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (1, b"")


def test_progress_shows_on_a_terminal_only(save, in_subprocess, jaxcodec):
    pty, termios = pytest.importorskip("pty"), pytest.importorskip("termios")
    pictures = [save("one.png"), save("two.png")]
    assert jaxcodec("encode", *pictures, "--codec", "jpeg")[2] == ""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    arguments = ("-m", "jaxcodec.cli", "encode", *pictures, "--codec", "webp")
    result = in_subprocess(*arguments, stdout=subprocess.DEVNULL, stderr=slave)
    os.set_blocking(master, False)
    shown = os.read(master, 4096)
    os.close(slave)
    os.close(master)
    assert result.returncode == 0
    assert b"encoding" in shown


# --- devices and compiled programs ---


@pytest.mark.parametrize("device", ["gpu", "tpu"])
def test_a_device_that_is_not_there_is_one_clear_line(device, save, jaxcodec):
    picture = save("a.png")
    code, out, err = jaxcodec("encode", picture, "--codec", "jpeg", "--device", device)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert f"--device {device}" in err
    assert not picture.with_suffix(".jpg").exists()


def test_a_missing_gpu_is_one_clear_line_where_jax_was_not_imported_before(save, in_subprocess):
    arguments = ("-m", "jaxcodec.cli", "encode", save("a.png"), "--codec", "jpeg", "--device", "gpu")
    result = in_subprocess(*arguments, environment={"CUDA_VISIBLE_DEVICES": "-1"})
    assert result.returncode == 1
    assert result.stderr.decode().splitlines()[-1].startswith("jaxcodec: --device gpu: jax finds no GPU here")
    assert b"Traceback" not in result.stderr


SHOW_ENVIRONMENT = (
    "import os, sys; from jaxcodec.cli.device import prepare_jax; prepare_jax('cpu')\n"
    "assert 'jax' not in sys.modules\n"
    "names = 'JAX_PLATFORMS', 'XLA_PYTHON_CLIENT_PREALLOCATE', 'JAX_COMPILATION_CACHE_DIR'\n"
    "print(*(os.environ.get(name) for name in names))"
)


def test_jax_is_set_up_before_it_is_imported(in_subprocess, tmp_path):
    result = in_subprocess("-c", SHOW_ENVIRONMENT, environment={"XDG_CACHE_HOME": str(tmp_path)})
    assert result.stdout.decode().split() == ["cpu", "false", str(tmp_path / "jaxcodec" / "compiled")]


def test_a_cache_that_cannot_be_written_is_done_without(in_subprocess, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    result = in_subprocess("-c", SHOW_ENVIRONMENT, environment={"XDG_CACHE_HOME": str(tmp_path / "file")})
    assert (result.stdout.decode().split(), result.stderr) == (["cpu", "false", "None"], b"")


def test_a_learned_codec_keeps_its_compiled_programs(in_subprocess, save, weights, tmp_path):
    picture = save("a.png")
    arguments = ("-m", "jaxcodec.cli", "encode", picture, "--weights", weights("bls2017"), "--device", "cpu")
    result = in_subprocess(*arguments, environment={"XDG_CACHE_HOME": str(tmp_path / "cache")})
    assert (result.returncode, result.stderr) == (0, b"")
    assert picture.with_suffix(".jxc").exists()
    assert list((tmp_path / "cache" / "jaxcodec" / "compiled").iterdir())
