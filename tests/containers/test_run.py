"""What runs in the image is fenced in, and its output, exit code and signals pass through."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container_parts import Small, leftovers, wait_for
from harness import Cli, command
from qk_containers.run import OWNER, WORK, inside

from qk_bench.errors import UsageError
from qk_bench.run.environment import hardware

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.engine


@pytest.fixture
def image(cli: Cli, small: Small, client: DockerClient) -> Small:
    """A built image, and a folder `runs` that its user may write to."""
    code, _, err = cli(*small.build("--record"))
    assert code == 0, err
    return small


def test_output_and_exit_code_pass_through(cli: Cli, image: Small, client: DockerClient) -> None:
    script = "echo first; echo other >&2; i=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; exit 7"
    code, out, err = cli("container", "run", "--", "sh", "-c", script)
    assert code == 7
    assert out == "first\n" + "".join(f"line {i}\n" for i in range(2000))
    assert err == "other\n"
    assert leftovers(client) == []


def test_nothing_but_the_run_folder_can_be_written_and_nothing_is_privileged(
    cli: Cli, image: Small, client: DockerClient
) -> None:
    script = (
        "touch runs/here && echo runs; touch /etc/no || echo root; touch /tmp/yes && echo tmp; "
        "touch read/no || echo read; cat read/word; "
        "grep -E 'CapEff|CapBnd|NoNewPrivs|^Uid' /proc/self/status; cat /proc/net/dev | grep -c :"
    )
    Path("read").mkdir()
    Path("read/word").write_text("a word\n")
    code, out, err = cli("container", "run", "--read", "read", "--", "sh", "-c", script)
    lines = out.splitlines()
    assert code == 0, err
    assert lines[:5] == ["runs", "root", "tmp", "read", "a word"]
    told = dict(line.split(":", 1) for line in lines[5:9])
    assert told["CapEff"].strip() == told["CapBnd"].strip() == "0" * 16
    assert told["NoNewPrivs"].strip() == "1"
    assert "0" not in told["Uid"].split()
    assert lines[9] == "1", "more than the loopback interface"
    assert Path("runs/here").stat().st_uid == (OWNER if os.geteuid() == 0 else os.geteuid())


def test_processes_and_memory_are_limited(cli: Cli, image: Small, client: DockerClient) -> None:
    script = "i=0; while [ $i -lt 40 ]; do sleep 3 & i=$((i+1)); done; echo all"
    code, out, err = cli("container", "run", "--pids", "16", "--", "sh", "-c", script)
    assert code != 0 and "all" not in out and "can't fork" in err
    hungry = "x=0123456789abcdef; while true; do x=$x$x; done"
    code, _, err = cli("container", "run", "--memory", "16m", "--", "sh", "-c", hungry)
    assert code != 0 and "--memory" in err


def test_the_manifest_of_a_run_inside_would_name_the_image(
    cli: Cli, image: Small, client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = cli("container", "run", "--", "sh", "-c", "echo $QK_BENCH_IMAGE")
    assert code == 0
    monkeypatch.setenv("QK_BENCH_IMAGE", out.strip())
    told = hardware()["image"]
    assert isinstance(told, dict)
    assert told["id"] == client.api.inspect_image("qk-bench:default")["Id"]
    assert told["name"] == "qk-bench:default" and str(told["lock"]).startswith("sha256:")


def test_a_program_that_is_not_there_is_said_as_a_shell_does(cli: Cli, image: Small, client: DockerClient) -> None:
    code, _, err = cli("container", "run", "--", "no-such-program")
    assert code == 127 and "no-such-program" in err and len(err.splitlines()) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_the_command(image: Small, client: DockerClient, number: signal.Signals) -> None:
    script = "trap 'echo caught; exit 9' INT TERM; echo ready; while true; do sleep 0.1; done"
    words = command("container", "run", "--", "sh", "-c", script)
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    assert process.stdout.read() == "caught\n"
    assert process.wait(60) == 9
    assert leftovers(client) == []


def test_a_killed_run_leaves_no_container(image: Small, client: DockerClient) -> None:
    words = command("container", "run", "--", "sh", "-c", "echo ready; sleep 600")
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "ready\n"
    process.kill()
    process.wait()
    wait_for(lambda: leftovers(client) == [])


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--tag", "absent", "--", "id"], "there is no image absent"),
        (["--gpus", "all", "--", "id"], "cannot pass a GPU on"),
        (["--memory", "much", "--", "id"], "--memory much"),
        (["--read", "absent", "--", "id"], "--read absent"),
        (["--env", "=x", "--", "id"], "--env =x"),
        (["--weights", "absent", "--", "id"], "--weights absent"),
        (["--runs", "/usr", "--", "id"], "--runs /usr"),
    ],
)
def test_a_mistake_is_one_line(cli: Cli, image: Small, client: DockerClient, words: list[str], found: str) -> None:
    code, out, err = cli("container", "run", *words)
    assert code == 2 and out == ""
    assert len(err.splitlines()) == 1 and found in err
    assert leftovers(client) == []


@pytest.mark.parametrize("path", ["/", "/usr/share", "/opt/env", "/tmp", "."])
def test_no_mount_hides_a_part_of_the_image(path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError):
        inside(Path(path))
    assert inside(Path("a/b")) == WORK / "a" / "b"
    assert str(inside(Path("/home/someone/data"))) == "/home/someone/data"
    assert inside(tmp_path / "c") == WORK / "c"
