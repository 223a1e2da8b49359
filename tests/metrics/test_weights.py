"""Weights: pinned, read without running anything, written whole or not at all."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qk_bench import weights
from qk_bench.cli.weights import app
from qk_bench.errors import UsageError
from qk_bench.metrics.lpips import Lpips, LpipsAlex
from qk_bench.safe_read import WeightsError, member, numpy_pickle, safetensors_bytes, torchscript

LANDMARKS = "dlib-landmarks-5"


class Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        """Run os.mkdir."""
        return os.mkdir, (str(self.path),)


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, face_weights: None) -> Path:
    """An empty cache, and the user's folder with one original in it."""
    source = weights.path(LANDMARKS)
    folder = tmp_path / "mine"
    folder.mkdir()
    shutil.copy(source, folder)
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("QK_BENCH_WEIGHTS", str(folder))
    return folder


def test_pull_prefers_the_users_folder_and_verifies(own_cache: Path) -> None:
    result = CliRunner().invoke(app, ["pull", LANDMARKS])
    assert result.exit_code == 0
    assert weights.state(LANDMARKS) == "present"
    assert CliRunner().invoke(app, ["verify", LANDMARKS]).exit_code == 0
    assert not [file for file in weights.path(LANDMARKS).parent.iterdir() if file.name.startswith(".")]


def test_a_cache_that_cannot_be_written_is_one_line(
    own_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path / "file"))
    with pytest.raises(WeightsError, match=r"cannot be kept in .*file.weights: .*\(let QK_BENCH_CACHE name a folder"):
        weights.pull(LANDMARKS)


def test_a_server_that_speaks_no_http_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As behind a proxy that asks for a login."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        entry = weights.table()[LANDMARKS].model_copy(
            update={
                "url": f"http://127.0.0.1:{server.getsockname()[1]}/file",
                "package": weights.Package(requirement="no such requirement", archive="none.whl", sha256="0" * 64),
            }
        )
        monkeypatch.setattr(weights, "table", lambda: {LANDMARKS: entry})
        monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path))
        monkeypatch.delenv("QK_BENCH_WEIGHTS", raising=False)

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(b"please log in\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        with pytest.raises(WeightsError, match=r"could be had nowhere .*url: please log in"):
            weights.pull(LANDMARKS)
        thread.join()


def test_a_tampered_original_is_refused(own_cache: Path) -> None:
    file = own_cache / weights.path(LANDMARKS).name
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(WeightsError, match="refused: its sha256 is"):
        weights.pull(LANDMARKS)
    assert weights.state(LANDMARKS) == "absent"


def test_a_tampered_cached_file_is_refused_and_verify_exits_1(own_cache: Path) -> None:
    weights.pull(LANDMARKS)
    with weights.path(LANDMARKS).open("r+b") as file:
        file.seek(1000)
        file.write(b"tampered")
    with pytest.raises(WeightsError, match="not the pinned one"):
        weights.load(LANDMARKS)
    found = CliRunner().invoke(app, ["verify", LANDMARKS, "--format", "json"])
    assert found.exit_code == 1
    assert json.loads(found.stdout) == {LANDMARKS: "damaged"}
    weights.pull(LANDMARKS)
    assert weights.state(LANDMARKS) == "present"


def test_a_tampered_network_is_not_loaded(
    pinned_weights: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytearray(weights.load("lpips-alex"))
    data[5000] ^= 1
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path))
    weights.path("lpips-alex").parent.mkdir(parents=True)
    weights.path("lpips-alex").write_bytes(data)
    with pytest.raises(WeightsError, match="refused"):
        Lpips("alex")


def test_processes_can_pull_at_once(own_cache: Path) -> None:
    code = (
        f"from qk_bench import weights; weights.pull({LANDMARKS!r}); assert weights.state({LANDMARKS!r}) == 'present'"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(3)]
    assert [process.wait(60) for process in processes] == [0, 0, 0]


def test_missing_weights_make_a_metric_unavailable_with_the_mend(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path))
    available, mend = LpipsAlex().availability()
    assert not available
    assert "qkbench weights pull lpips-alex" in mend


def test_an_unknown_name_lists_the_known() -> None:
    with pytest.raises(UsageError, match="inception-tf"):
        weights.select(["inception"])


def test_list_reads_no_weights() -> None:
    rows = json.loads(CliRunner().invoke(app, ["list", "--format", "json"]).stdout)["weights"]
    assert {row["name"] for row in rows} == set(weights.table())


def test_a_pickle_cannot_run_anything(tmp_path: Path) -> None:
    for protocol in range(2, 6):
        with pytest.raises(WeightsError, match="no use for"):
            numpy_pickle(pickle.dumps({"weight": Bomb(tmp_path / "ran")}, protocol))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("net/data.pkl", pickle.dumps(Bomb(tmp_path / "ran"), 2))
    with pytest.raises(WeightsError, match="no use for"):
        torchscript(archive.getvalue())
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("data", [b"", b"garbage", b"\x80\x02}", b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\xff."])
def test_a_torn_pickle_is_one_error(data: bytes) -> None:
    with pytest.raises(WeightsError):
        numpy_pickle(data)


def test_a_torchscript_archive_is_read_as_torch_reads_it(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, (1, 5)), torch.nn.Sequential(torch.nn.Linear(7, 2)))
    torch.jit.save(torch.jit.trace(net, torch.zeros(1, 3, 1, 11)), str(tmp_path / "net.pt"))
    found = torchscript((tmp_path / "net.pt").read_bytes())
    expected = {name: tensor.detach().numpy() for name, tensor in net.state_dict().items()}
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)


def test_safetensors_are_those_of_the_library() -> None:
    library = pytest.importorskip("safetensors.numpy")
    tensors = {"b": np.arange(6, dtype=np.float32).reshape(2, 3), "a": np.zeros((0, 2), np.float32)}
    loaded = library.load(safetensors_bytes(tensors))
    assert all(np.array_equal(loaded[name], tensors[name]) for name in tensors)


def test_an_archive_gives_one_regular_file_of_bounded_size() -> None:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as file:
        link = tarfile.TarInfo("pkg/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
        entry = tarfile.TarInfo("pkg/data")
        entry.size = 100
        file.addfile(entry, io.BytesIO(b"x" * 100))
    data = archive.getvalue()
    assert member(data, "pkg/data", "tar", 100) == b"x" * 100
    for path, limit in (("pkg/link", 100), ("pkg/data", 99), ("../data", 100)):
        with pytest.raises(WeightsError):
            member(data, path, "tar", limit)
    with pytest.raises(WeightsError):
        member(b"not a zip", "pkg/data", "zip", 100)
