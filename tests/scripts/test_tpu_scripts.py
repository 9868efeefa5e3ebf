"""The TPU scripts print the gcloud commands they mean, and do with a stand-in for gcloud what they say.

Nothing here reaches a network or a TPU. The stand-in records its arguments; asked to, it answers `describe` with
given states, copies by `scp` into a folder and runs `ssh` commands with that folder as home, so that the commands
meant for the workers run too, on this machine.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"
CREATE = ["--name=pod", "--zone=us-west4-a", "--accelerator_type=v5litepod-16"]
SLICE = ["--name=pod", "--zone=us-west4-a"]
ODD = [
    "--workdir=gs://bucket/a run=1",
    '--note=it\'s "quoted" $HOME `id` \\ & ; | * ~ #',
    "--two\nlines\tand a tab\n",
    "--é=λ×2",
    "--empty=",
    "",
    "plain",
]

GCLOUD = """
import json, os, shutil, subprocess, sys
with open(os.environ["RECORD"], "a") as record:
    record.write(json.dumps(sys.argv[1:]) + "\\n")
verb = sys.argv[4] if len(sys.argv) > 4 else ""
if verb == "describe":
    states = open(os.environ["STATES"]).read().split()
    open(os.environ["STATES"], "w").write(" ".join(states[1:] or states[-1:]))
    sys.exit("NOT_FOUND" if states[0] == "NOT_FOUND" else print(states[0]))
home = os.environ.get("WORKER_HOME")
if home and verb == "scp":
    shutil.copy(sys.argv[5], os.path.join(home, sys.argv[6].partition(":")[2]))
if home and verb == "ssh":
    command = sys.argv[-1].partition("=")[2]
    sys.exit(subprocess.run(["bash", "-c", command], env=os.environ | {"HOME": home}).returncode)
"""
# What `uv venv` makes here in place of Python: it records its flags and trains until SIGTERM.
PYTHON = """
import json, os, signal, sys, time
open(os.path.join(os.environ["HOME"], "flags.json"), "w").write(json.dumps(sys.argv[1:]))
signal.signal(signal.SIGTERM, signal.SIG_IGN if "--hang" in sys.argv else lambda *_: sys.exit(75))
print("step 1", flush=True)
if "--steps=1" not in sys.argv:
    time.sleep(60)
"""
UV = """
import os, pathlib, sys
with open(os.path.join(os.environ["HOME"], "uv.log"), "a") as log:
    print(*sys.argv[1:], file=log)
if sys.argv[1] == "venv":
    python = pathlib.Path(sys.argv[-1], "bin", "python")
    python.parent.mkdir(parents=True)
    python.write_text({python!r})
    python.chmod(0o755)
"""


def executable(path, code):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!{sys.executable} -SE\n{code}")
    path.chmod(0o755)


@pytest.fixture
def world(tmp_path):
    """Environment variables with a stand-in gcloud first on PATH, and its record."""
    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    states = tmp_path / "states"
    states.write_text("NOT_FOUND WAITING_FOR_RESOURCES PROVISIONING ACTIVE")
    return os.environ | {
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "RECORD": str(tmp_path / "record.jsonl"),
        "STATES": str(states),
        "TMPDIR": str(tmp_path),
    }


@pytest.fixture(scope="module")
def repository(tmp_path_factory):
    """A checkout with the script and one experiment, and its commit."""
    root = tmp_path_factory.mktemp("a checkout")
    (root / "scripts").mkdir()
    shutil.copy(SCRIPTS / "tpu_train.sh", root / "scripts")
    (root / "experiments").mkdir()
    (root / "experiments" / "balle2017.py").write_text("")
    git = ["git", "-C", str(root), "-c", "user.name=tests", "-c", "user.email=tests@example.invalid"]
    subprocess.run([*git, "init", "--quiet"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "--quiet", "--message=all"], check=True)
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], check=True, capture_output=True)
    return root, commit.stdout.decode().strip()


@pytest.fixture
def worker(world, tmp_path):
    """The home folder of a worker with uv; what was started there is ended afterwards."""
    home = tmp_path / "home"
    executable(home / ".local" / "bin" / "uv", UV.format(python=f"#!{sys.executable} -SE\n{PYTHON}"))
    world["WORKER_HOME"] = str(home)
    yield home
    pid = home / "jaxcodec-run" / "train.pid"
    if pid.exists() and not (pid.parent / "train.exit").exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)


def run(script, *arguments, env=None):
    command = ["bash", str(script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=30)


def printed(script, *arguments, env=None):
    done = run(script, "--dry_run", *arguments, env=env)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def recorded(world):
    record = Path(world["RECORD"])
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def wait_for(condition):
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    pytest.fail("nothing came within 4 seconds")


@pytest.mark.parametrize("script", ["tpu_create.sh", "tpu_train.sh"])
def test_the_script_parses_and_its_help_teaches_by_example(script):
    assert subprocess.run(["bash", "-n", str(SCRIPTS / script)], check=False).returncode == 0
    done = run(SCRIPTS / script, "--help")
    assert done.returncode == 0
    assert not done.stderr
    assert "Examples\n  # " in done.stdout
    assert done.stdout.count(f"scripts/{script} --name=pod") >= 3
    assert os.access(SCRIPTS / script, os.X_OK)


@pytest.mark.parametrize("script", ["tpu_create.sh", "tpu_train.sh"])
def test_every_gcloud_flag_names_the_page_that_defines_it(script):
    text = (SCRIPTS / script).read_text(encoding="utf-8")
    body = text[text.index("\nHELP\n") :]
    lines = body.splitlines()
    starts = [number for number, line in enumerate(lines) if line.strip().startswith("gcloud ")]
    assert starts
    for start in starts:
        assert "cloud.google.com/sdk/gcloud/reference/" in "".join(lines[start - 2 : start])
        for number in range(start + 1, next(n for n in range(start, len(lines)) if lines[n].strip() == ")")):
            if "--" in lines[number].partition("#")[0]:
                assert "#--" in "".join(lines[number - 2 : number + 1]), lines[number]


def test_creating_prints_create_and_describe():
    assert printed(SCRIPTS / "tpu_create.sh", *CREATE) == [
        "gcloud compute tpus queued-resources create pod --zone=us-west4-a --node-id=pod "
        "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite",
        "gcloud compute tpus queued-resources describe pod --zone=us-west4-a --format='value(state.state)'",
    ]


def test_every_option_of_creating_becomes_its_gcloud_flag():
    options = [*CREATE, "--project=my-project", "--runtime_version=v9", "--valid_until_duration=6h", "--spot"]
    assert printed(SCRIPTS / "tpu_create.sh", *options)[0] == (
        "gcloud compute tpus queued-resources create pod --zone=us-west4-a --project=my-project --node-id=pod "
        "--accelerator-type=v5litepod-16 --runtime-version=v9 --valid-until-duration=6h --spot"
    )


def test_on_demand_is_what_creating_without_a_tier_means():
    plain = printed(SCRIPTS / "tpu_create.sh", *CREATE)
    assert printed(SCRIPTS / "tpu_create.sh", *CREATE, "--on_demand") == plain
    assert "--spot" not in plain[0]


@pytest.mark.parametrize(
    ("accelerator", "runtime"),
    [
        # cloud.google.com/tpu/docs/runtimes
        ("v6e-16", "v2-alpha-tpuv6e"),
        ("v5p-32", "v2-alpha-tpuv5"),
        ("v5litepod-16", "v2-alpha-tpuv5-lite"),
        ("v4-32", "tpu-ubuntu2204-base"),
        ("v3-8", "tpu-ubuntu2204-base"),
    ],
)
def test_the_runtime_version_follows_from_the_generation(accelerator, runtime):
    (line, _) = printed(SCRIPTS / "tpu_create.sh", *SLICE, f"--accelerator_type={accelerator}")
    assert f"--runtime-version={runtime}" in shlex.split(line)


def test_deleting_prints_one_command_that_takes_the_node_along():
    assert printed(SCRIPTS / "tpu_create.sh", *SLICE, "--delete", "--project=p") == [
        "gcloud compute tpus queued-resources delete pod --zone=us-west4-a --project=p --force --quiet"
    ]


def test_printed_commands_pasted_into_bash_give_gcloud_the_values_unchanged(world):
    options = [f"--project={ODD[1]}", f"--valid_until_duration={ODD[2]}", "--name=é x", "--zone=z"]
    lines = printed(SCRIPTS / "tpu_create.sh", *options, "--accelerator_type=v4-8", env=world)
    assert recorded(world) == []
    subprocess.run(["bash", "-c", lines[0]], env=world, check=True)
    (argv,) = recorded(world)
    assert argv[4] == "é x"
    assert f"--project={ODD[1]}" in argv
    assert f"--valid-until-duration={ODD[2]}" in argv


def test_creating_waits_and_tells_each_state_until_active(world):
    done = run(SCRIPTS / "tpu_create.sh", *CREATE, "--poll_seconds=0", env=world)
    assert done.returncode == 0, done.stderr
    states = [line.split()[1] for line in done.stdout.splitlines()]
    assert states == ["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]
    assert [argv[3] for argv in recorded(world)] == ["describe", "create", "describe", "describe", "describe"]


def test_a_resource_that_exists_is_waited_for_and_not_created_again(world):
    Path(world["STATES"]).write_text("PROVISIONING ACTIVE")
    done = run(SCRIPTS / "tpu_create.sh", *CREATE, "--poll_seconds=0", env=world)
    assert done.returncode == 0
    assert {argv[3] for argv in recorded(world)} == {"describe"}


@pytest.mark.parametrize("state", ["FAILED", "SUSPENDED"])
def test_a_resource_that_will_not_come_ends_the_wait_with_the_remedy(world, state):
    Path(world["STATES"]).write_text(f"NOT_FOUND PROVISIONING {state}")
    done = run(SCRIPTS / "tpu_create.sh", *CREATE, "--poll_seconds=0", env=world)
    assert done.returncode == 1
    assert f"pod is {state}" in done.stderr
    assert "--delete" in done.stderr


def test_the_wait_ends_after_the_timeout(world):
    Path(world["STATES"]).write_text("WAITING_FOR_RESOURCES")
    done = run(SCRIPTS / "tpu_create.sh", *CREATE, "--timeout=0", env=world)
    assert done.returncode == 1
    assert "not ACTIVE after 0 s" in done.stderr


def test_deleting_runs_the_command_it_prints(world):
    (line,) = printed(SCRIPTS / "tpu_create.sh", *SLICE, "--delete")
    assert run(SCRIPTS / "tpu_create.sh", *SLICE, "--delete", env=world).returncode == 0
    assert recorded(world) == [shlex.split(line)[1:]]


def test_starting_prints_archive_copy_install_and_start(repository, world, tmp_path):
    root, commit = repository
    start = [*SLICE, "--project=p", "--experiment=balle2017", "--", "--workdir=gs://bucket/q4"]
    lines = printed(root / "scripts" / "tpu_train.sh", *start, env=world)
    archive = tmp_path / f"jaxcodec-{commit}.tar.gz"
    assert lines[0] == f"git -C '{root}' archive --format=tar.gz --output={archive} {commit}"
    assert lines[1] == (
        f"gcloud compute tpus tpu-vm scp {archive} pod:jaxcodec-{commit}.tar.gz "
        "--zone=us-west4-a --project=p --worker=all"
    )
    on_all = "gcloud compute tpus tpu-vm ssh pod --zone=us-west4-a --project=p --worker=all --command="
    assert [line[: len(on_all)] for line in lines[2:]] == [on_all, on_all]
    assert "'.[tpu,train]'" in shlex.split(lines[2])[-1]
    assert (
        "../venv/bin/python -u -m experiments.balle2017 --multihost --workdir=gs://bucket/q4 &"
        in shlex.split(lines[3])[-1]
    )
    assert recorded(world) == []
    assert not archive.exists()


def test_odd_flags_reach_the_experiment_unchanged(repository, world, worker):
    root, _ = repository
    start = [*SLICE, "--experiment=balle2017", "--", *ODD, "--steps=1"]
    line = printed(root / "scripts" / "tpu_train.sh", *start, env=world)[-1]
    assert "\n" not in line
    executable(worker / "jaxcodec-run" / "venv" / "bin" / "python", PYTHON)
    (worker / "jaxcodec-run" / "code").mkdir()
    subprocess.run(["bash", "-c", line], env=world, check=True, stdout=subprocess.DEVNULL)
    (argv,) = recorded(world)
    assert argv[:5] == ["compute", "tpus", "tpu-vm", "ssh", "pod"]
    assert argv[-1].startswith("--command=cd ~/jaxcodec-run ")
    wait_for((worker / "jaxcodec-run" / "train.exit").exists)
    flags = json.loads((worker / "flags.json").read_text())
    assert flags == ["-u", "-m", "experiments.balle2017", "--multihost", *ODD, "--steps=1"]


def test_a_run_outlives_its_connection_stops_with_75_and_starts_again(repository, world, worker):
    root, commit = repository
    script = root / "scripts" / "tpu_train.sh"
    start = [*SLICE, "--experiment=balle2017", "--", "--workdir=gs://bucket/q4"]
    folder = worker / "jaxcodec-run"

    done = run(script, *start, env=world)
    assert done.returncode == 0, done.stderr
    assert (folder / "code" / "experiments" / "balle2017.py").exists()
    assert "--reinstall-package jaxcodec .[tpu,train]" in (worker / "uv.log").read_text()
    wait_for(lambda: "step 1" in (folder / "train.log").read_text())
    pid = int((folder / "train.pid").read_text())
    os.kill(pid, signal.SIGHUP)  # what a lost connection sends
    assert f"running, pid {pid}; step 1" in run(script, *SLICE, "--status", env=world).stdout

    second = run(script, *start, env=world)
    assert second.returncode == 1
    assert f"a run is under way, pid {pid}" in second.stderr

    stopped = run(script, *SLICE, "--stop", env=world)
    assert stopped.returncode == 0, stopped.stderr
    assert "stopped and saved, exit code 75" in stopped.stdout
    assert (folder / "train.exit").read_text() == "75\n"
    assert run(script, *SLICE, "--follow", env=world).returncode == 75
    assert "nothing is running" in run(script, *SLICE, "--stop", env=world).stdout

    assert run(script, *start, env=world).returncode == 0
    assert (folder / "train.log").read_text().count(f"commit {commit}") == 2
    assert int((folder / "train.pid").read_text()) != pid


def test_following_shows_the_log_of_worker_0_and_ends_with_the_run(repository, world, worker):
    root, commit = repository
    start = [*SLICE, "--experiment=balle2017", "--follow", "--", "--steps=1"]
    done = run(root / "scripts" / "tpu_train.sh", *start, env=world)
    assert done.returncode == 0, done.stderr
    assert f"commit {commit}\nstep 1\n" in done.stdout
    assert done.stdout.endswith("ended, exit code 0\n")
    assert "--worker=0" in recorded(world)[-1]
    assert (worker / "flags.json").exists()


def test_a_run_that_hangs_is_named_after_the_wait_and_ended_by_force(repository, world, worker):
    script = repository[0] / "scripts" / "tpu_train.sh"
    assert run(script, *SLICE, "--experiment=balle2017", "--", "--hang", env=world).returncode == 0
    wait_for(lambda: "step 1" in (worker / "jaxcodec-run" / "train.log").read_text())
    hanging = run(script, *SLICE, "--stop", "--stop_seconds=0", env=world)
    assert hanging.returncode == 1
    assert "--stop --force" in hanging.stderr
    assert "exit code 137" in run(script, *SLICE, "--stop", "--force", env=world).stdout


def test_asking_a_worker_where_nothing_was_started_says_so(repository, world, worker):
    script = repository[0] / "scripts" / "tpu_train.sh"
    assert "nothing was started" in run(script, *SLICE, "--status", env=world).stdout
    assert "nothing is running" in run(script, *SLICE, "--stop", env=world).stdout
    assert run(script, *SLICE, "--follow", env=world).returncode == 1
    assert worker.exists()


@pytest.mark.parametrize(
    ("script", "arguments", "names"),
    [
        ("tpu_create.sh", [], "--name"),
        ("tpu_create.sh", ["--name=pod"], "--zone"),
        ("tpu_create.sh", SLICE, "--accelerator_type"),
        ("tpu_create.sh", [*SLICE, "--accelerator_type=v99-8"], "--runtime_version"),
        ("tpu_create.sh", [*CREATE, "--spot", "--on_demand"], "--on_demand"),
        ("tpu_create.sh", [*CREATE, "--tiemout=3"], "--tiemout=3"),
        ("tpu_create.sh", [*CREATE, "--timeout=1h"], "--timeout=1h"),
        ("tpu_create.sh", [*CREATE, "--project"], "--project=VALUE"),
        ("tpu_create.sh", [*CREATE, "pod"], "'pod'"),
        ("tpu_train.sh", [], "--name"),
        ("tpu_train.sh", ["--name=pod"], "--zone"),
        ("tpu_train.sh", SLICE, "--experiment"),
        ("tpu_train.sh", [*SLICE, "--", "--workdir=x"], "--experiment"),
        ("tpu_train.sh", [*SLICE, "--experiment=balle2017"], "--workdir"),
        ("tpu_train.sh", [*SLICE, "--experiment=balle2017", "--"], "--workdir"),
        ("tpu_train.sh", [*SLICE, "--experiment=balle9", "--", "--workdir=x"], "experiments/balle9.py"),
        ("tpu_train.sh", [*SLICE, "--workdir=x"], "come after --"),
        ("tpu_train.sh", [*SLICE, "--stop", "--status"], "--status"),
        ("tpu_train.sh", [*SLICE, "--stop", "--follow"], "--stop"),
        ("tpu_train.sh", [*SLICE, "--status", "--", "--workdir=x"], "--status"),
        ("tpu_train.sh", [*SLICE, "--follow", "--force"], "--force"),
        ("tpu_train.sh", [*SLICE, "--stop", "--stop_seconds=soon"], "--stop_seconds=soon"),
    ],
)
def test_wrong_options_get_one_sentence_and_exit_code_2(repository, world, script, arguments, names):
    path = repository[0] / "scripts" / script if script == "tpu_train.sh" else SCRIPTS / script
    done = run(path, *arguments, env=world)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert names in done.stderr
    assert recorded(world) == []


def test_without_gcloud_the_scripts_say_so_and_still_print(repository, tmp_path):
    (tmp_path / "bin").mkdir()
    for tool in ("bash", "git", "dirname", "cat"):
        (tmp_path / "bin" / tool).symlink_to(str(shutil.which(tool)))
    bare = {"PATH": str(tmp_path / "bin")}
    for script, arguments in (
        (SCRIPTS / "tpu_create.sh", CREATE),
        (repository[0] / "scripts" / "tpu_train.sh", [*SLICE, "--experiment=balle2017", "--", "--steps=1"]),
    ):
        done = run(script, *arguments, env=bare)
        assert done.returncode == 1
        assert "gcloud is not installed" in done.stderr
        assert printed(script, *arguments, env=bare)


def test_a_change_that_is_not_committed_is_named_as_not_copied(repository, world):
    root, commit = repository
    path = root / "experiments" / "balle2017.py"
    path.write_text("changed\n")
    done = run(
        root / "scripts" / "tpu_train.sh",
        *SLICE,
        "--experiment=balle2017",
        "--dry_run",
        "--",
        "--a",
        env=world,
    )
    path.write_text("")
    assert done.returncode == 0
    assert f"uncommitted changes are not copied; commit {commit} is" in done.stderr
