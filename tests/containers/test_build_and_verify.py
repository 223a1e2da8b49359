"""The image is built from what image.json names, is the same each time, and every change of it is found."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from container_parts import (
    CONTAINERFILE,
    Small,
    leftovers,
    start_engine,
    stop_engine,
    unavailable,
    wait_for,
    write_base,
    write_wheel,
)
from harness import Cli, command
from qk_containers.engine import SESSION_LABEL

if TYPE_CHECKING:
    from docker import DockerClient

pytestmark = pytest.mark.engine

SLOW = '"/bin/busybox", "mkdir", "-p"', '"/bin/busybox", "sleep", "60"]\nRUN ["/bin/busybox", "mkdir", "-p"'
"""What to replace in the Containerfile, so that a step of it takes a minute."""


def built(cli: Cli, small: Small, *more: str) -> dict[str, object]:
    code, out, err = cli(*small.build("--format", "json", *more))
    assert code == 0, err
    result: dict[str, object] = json.loads(out)
    return result


def test_two_builds_have_the_same_tree_and_leave_nothing_behind(cli: Cli, small: Small, client: DockerClient) -> None:
    first = built(cli, small, "--record")
    second = built(cli, small)
    assert first["tree"] == second["tree"]
    assert first["image"] != second["image"], "the second build was none"
    assert leftovers(client) == []
    assert next(step["size"] for step in second["steps"] if "unzip" in step["instruction"]) > 0  # type: ignore[attr-defined]
    code, out, err = cli("container", "verify", *small.words())
    assert code == 0, out + err
    assert "ok   wheels       1 of 1 are in" in out
    small.locked.unlink()
    code, out, err = cli("container", "verify", *small.words())
    assert code == 0, out + err
    assert "-    wheels       0 of 1 are in" in out


def test_an_image_says_what_it_is_made_of(cli: Cli, small: Small, client: DockerClient, tmp_path: Path) -> None:
    built(cli, small, "--record", "--sbom", str(tmp_path / "bill.json"))
    labels = client.api.inspect_image("qk-bench:default")["Config"]["Labels"]
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert labels["org.opencontainers.image.version"] == "0.1"
    assert labels["org.opencontainers.image.base.digest"].startswith("sha256:")
    bill = json.loads((tmp_path / "bill.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    (part,) = bill["components"]
    assert part["purl"] == "pkg:pypi/tiny@1.0" and part["licenses"] == [{"license": {"id": "MIT"}}]
    assert part["hashes"][0]["content"] in small.lock.read_text()


def test_a_changed_wheel_is_not_built_in(cli: Cli, small: Small, client: DockerClient) -> None:
    built(cli, small, "--record")
    write_wheel(small.locked, "tiny", "1.0", {"tiny.py": "x = 2\n"})
    code, _, err = cli(*small.build())
    assert code == 1 and "tiny-1.0-py3-none-any.whl: sha256" in err
    code, out, _ = cli("container", "verify", *small.words())
    assert code == 1 and "FAIL wheels" in out and "ok   tree" in out
    assert leftovers(client) == []


def test_a_changed_lock_is_refused(cli: Cli, small: Small, client: DockerClient) -> None:
    built(cli, small, "--record")
    write_wheel(small.locked, "tiny", "1.0", {"tiny.py": "x = 2\n"})
    small.write_lock()
    code, _, err = cli(*small.build())
    assert code == 1 and f"{small.lock.name}: its hash is" in err
    code, out, _ = cli("container", "verify", *small.words())
    assert code == 1 and "FAIL lock" in out


def test_verify_names_the_file_of_a_wheel_that_was_changed_with_its_lock(
    cli: Cli, small: Small, client: DockerClient, tmp_path: Path
) -> None:
    built(cli, small, "--record")
    shutil.copytree(small.recipe, tmp_path / "honest")
    write_wheel(small.locked, "tiny", "1.0", {"tiny.py": "x = 2\n"})
    small.write_lock()
    built(cli, small, "--record")
    code, out, err = cli(
        "container", "verify", "--recipe", tmp_path / "honest", "--wheel", small.project, "--wheels", tmp_path / "none"
    )
    assert code == 1, out
    assert "opt/env/tiny.py: content differs" in out
    assert "labels" in err and "tree" in err


def test_a_wrong_base_is_refused_and_found(cli: Cli, small: Small, client: DockerClient, tmp_path: Path) -> None:
    built(cli, small, "--record")
    other = write_base(tmp_path / "other.tar", "two")
    code, _, err = cli("container", "build", *small.words("--base", str(other)))
    assert code == 1 and "the base is sha256:" in err and "image.json expects" in err
    shutil.copytree(small.recipe, tmp_path / "honest")
    code, _, err = cli("container", "build", *small.words("--base", str(other), "--record"))
    assert code == 0, err
    code, out, _ = cli(
        "container", "verify", "--recipe", tmp_path / "honest", "--wheel", small.project, "--wheels", small.wheels
    )
    assert code == 1 and "FAIL base" in out and "etc/mark: content differs" in out
    code, out, _ = cli("container", "verify", *small.words("--base", str(other)))  # it is a base of its own there
    assert code == 0, out


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo >> /opt/env/tiny.py\"]", "opt/env/tiny.py: content differs"),
        ("RUN [\"/bin/busybox\", \"chmod\", \"4755\", \"/bin/busybox\"]", "bin/busybox: mode is 4755, not 755"),
        ("RUN [\"/bin/busybox\", \"touch\", \"/etc/more\"]", "etc/more: should not be there"),
        ("RUN [\"/bin/busybox\", \"rm\", \"/opt/env/tiny.py\"]", "opt/env/tiny.py: is missing"),
        ("RUN [\"/bin/busybox\", \"sh\", \"-c\", \"echo >> /opt/qk-bench/own.py\"]", "opt/qk-bench/own.py: content differs"),
        ("ENV LD_PRELOAD=/etc/mark", "FAIL config"),
    ],
)  # fmt: skip
def test_any_change_of_an_image_is_found(cli: Cli, small: Small, client: DockerClient, line: str, found: str) -> None:
    built(cli, small, "--record")
    lines = f"FROM qk-bench:default\nUSER 0\n{line}\nUSER 65532:65532\n"
    text = lines.encode()
    from qk_containers.base import tar_stream

    for message in client.api.build(
        fileobj=tar_stream([("Containerfile", text)]), custom_context=True, dockerfile="Containerfile",
        tag="qk-bench:changed", rm=True, forcerm=True, network_mode="none", decode=True,
    ):  # fmt: skip
        assert "error" not in message, message
    code, out, _ = cli("container", "verify", *small.words("--tag", "qk-bench:changed"))
    client.api.remove_image("qk-bench:changed")
    assert code == 1 and found in out, out


def test_a_failing_step_is_one_line_and_leaves_nothing(cli: Cli, small: Small, client: DockerClient) -> None:
    small.containerfile.write_text(CONTAINERFILE.replace("/wheels/tiny-1.0", "/wheels/absent-1.0"))
    code, out, err = cli(*small.build("--record"))
    assert code == 1 and out == ""
    assert "of the build failed: RUN" in err.splitlines()[-1] and "absent-1.0" in err.splitlines()[-1]
    assert leftovers(client) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_build_leaves_nothing_behind(small: Small, client: DockerClient, number: signal.Signals) -> None:
    small.containerfile.write_text(CONTAINERFILE.replace(*SLOW))
    process = subprocess.Popen(
        command(*small.build("--record")),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a background shell's children ignore it
    )
    assert process.stderr is not None
    for line in process.stderr:
        if "sleep" in line:
            break
    wait_for(lambda: client.api.containers() != [])
    process.send_signal(number)
    process.stderr.read()
    code = process.wait(60)
    assert code in (130, -number, 128 + number)
    wait_for(lambda: leftovers(client) == [])
    assert "tree" not in (small.recipe / "image.json").read_text()


def test_a_build_that_is_killed_while_it_fetches_leaves_no_half_of_a_wheel(
    small: Small, client: DockerClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.locked.unlink()
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    with socket.socket() as index:  # an index that takes calls and never answers
        index.bind(("127.0.0.1", 0))
        index.listen()
        for name, value in {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_FIND_LINKS": "",
            "PIP_INDEX_URL": f"http://127.0.0.1:{index.getsockname()[1]}/",
            "TMPDIR": str(temporary),
        }.items():
            monkeypatch.setenv(name, value)
        process = subprocess.Popen(
            command(*small.build("--record")), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        caller, _ = index.accept()
        assert list(small.wheels.iterdir()) and list(temporary.iterdir())
        process.kill()
        process.wait()
        wait_for(lambda: [*small.wheels.iterdir(), *temporary.iterdir()] == [])
        caller.close()
    assert leftovers(client) == []


def test_what_could_not_be_written_is_said_before_the_build(
    cli: Cli, small: Small, client: DockerClient, tmp_path: Path
) -> None:
    code, out, err = cli(
        *small.build("--record", "--tag", "unwritten", "--sbom", str(tmp_path / "absent" / "bill.json"))
    )
    assert code == 2 and out == "" and len(err.splitlines()) == 1
    assert "absent is no folder that can be written" in err
    assert not client.api.images("unwritten") and leftovers(client) == []


def test_a_full_disk_is_one_line_and_leaves_nothing(
    cli: Cli, small: Small, client: DockerClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qk_containers.engine import connect

    with tempfile.TemporaryDirectory(prefix="qk-full-", ignore_cleanup_errors=True) as name:
        data = Path(name) / "data"
        data.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(data)], check=True)
        process = start_engine(Path(name), data)
        try:
            monkeypatch.setenv("DOCKER_HOST", f"unix://{name}/engine.sock")
            filled = '["/bin/busybox", "dd", "if=/dev/zero", "of=/big", "bs=1M", "count=64"]'
            small.containerfile.write_text(
                CONTAINERFILE.replace('["/bin/busybox", "mkdir", "-p", "/opt/env", "/opt/qk-bench"]', filled)
            )
            code, _, err = cli(*small.build("--record"))
            assert code == 2 and "the engine's disk is full" in err.splitlines()[-1]
            other = connect()
            assert leftovers(other) == []
            other.close()
        finally:
            stop_engine(process)
            subprocess.run(["umount", "-l", str(data)], check=True)


@pytest.mark.parametrize("verb", ["build", "run"])
def test_an_engine_that_dies_is_one_line_and_what_is_left_goes_when_it_is_back(
    cli: Cli, small: Small, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    from qk_containers.engine import connect

    monkeypatch.chdir(tmp_path)
    with tempfile.TemporaryDirectory(prefix="qk-dying-", ignore_cleanup_errors=True) as name:
        engine = start_engine(Path(name))
        try:
            monkeypatch.setenv("DOCKER_HOST", f"unix://{name}/engine.sock")
            words = ["container", "run", "--", "sh", "-c", "sleep 60"]
            if verb == "run":
                built(cli, small, "--record")
            else:
                words = small.build("--record")
                small.containerfile.write_text(CONTAINERFILE.replace(*SLOW))
            process = subprocess.Popen(command(*words), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            client = connect()
            wait_for(lambda: client.api.containers() != [])
            client.close()
            engine.kill()
            engine.wait()
            assert process.stderr is not None
            said = process.stderr.read()
            assert process.wait(60) == 2
            assert "Traceback" not in said and "no container engine answers at" in said.splitlines()[-1]
            engine = start_engine(Path(name))
            client = connect()
            wait_for(lambda: leftovers(client) == [])
            client.close()
        finally:
            stop_engine(engine)
            subprocess.run(["umount", "-l", f"{name}/data"], check=False, stderr=subprocess.DEVNULL)  # of the first one


def test_a_variant_without_a_lock_is_refused(cli: Cli, small: Small, client: DockerClient) -> None:
    small.lock.unlink()
    words = [word for word in small.build("--record") if word not in ("--wheels", str(small.wheels))]
    code, _, err = cli(*words)
    assert code == 2 and "there is no lock" in err and len(err.splitlines()) == 1
    assert leftovers(client) == []


def test_what_other_sessions_made_is_left_alone(cli: Cli, small: Small, client: DockerClient) -> None:
    built(cli, small, "--record")
    mine = client.api.create_container("qk-bench:default", ["sleep"], labels={SESSION_LABEL: "another"})["Id"]
    built(cli, small)
    assert leftovers(client)[0] == mine
    client.api.remove_container(mine, force=True)
    for image in client.api.images(filters={"dangling": True}):  # the first image, which that container held
        client.api.remove_image(image["Id"])


def test_a_platform_nothing_is_known_of_is_refused(cli: Cli, small: Small, client: DockerClient) -> None:
    code, _, err = cli(*small.build("--record", "--platform", "linux/sparc"))
    assert code == 2 and "--platform linux/sparc" in err and "linux/amd64" in err


def test_a_base_comes_by_digest_from_a_registry(cli: Cli, small: Small, client: DockerClient) -> None:
    program = shutil.which("docker-registry")
    if program is None:
        unavailable("needs docker-registry (Debian: docker-registry)")
    built(cli, small, "--record")
    with tempfile.TemporaryDirectory(prefix="qk-registry-") as name:
        port = free_port()
        config = Path(name) / "config.yml"
        config.write_text(
            f"version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {name}/data}}}}\nhttp: {{addr: '127.0.0.1:{port}'}}\n"
        )
        registry = subprocess.Popen(
            [str(program), "serve", str(config)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            repository = f"127.0.0.1:{port}/base"
            held = next(t for i in client.api.images() for t in i["RepoTags"] or [] if t.startswith("qk-bench-base"))
            client.api.tag(held, repository, "latest")
            wait_for(
                lambda: any("aux" in line for line in client.api.push(repository, "latest", stream=True, decode=True))
            )
            digest = client.api.inspect_image(f"{repository}:latest")["RepoDigests"][0]
            client.api.remove_image(f"{repository}:latest")
            words = ["container", "build", *small.words("--base", digest, "--record", "--base-name", "pulled")]
            code, _, err = cli(*words)
            assert code == 0, err
            assert json.loads((small.recipe / "image.json").read_text())["bases"]["pulled"]["reference"] == repository
            code, out, err = cli("container", "verify", *small.words())
            assert code == 0, out + err
            wrong = digest.rpartition(":")[0] + ":" + "0" * 64
            code, _, err = cli("container", "build", *small.words("--base", wrong))
            assert code == 2 and "pulling" in err and len(err.splitlines()) == 1
        finally:
            registry.terminate()
            registry.wait()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
