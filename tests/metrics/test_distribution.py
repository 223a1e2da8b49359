"""Set metrics end to end on real weights: ids, refusals, cache, broken files, memory."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import weakref
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from qk_bench.metrics import features, fid, intervals
from qk_bench.metrics.distribution import Sets
from qk_bench.metrics.features import FeatureReader, Features, FeatureStore, row_blocks
from qk_bench.metrics.fid import Fid
from qk_bench.metrics.folders import Folder, score_folders
from qk_bench.metrics.kid import Kid
from qk_bench.metrics.precision_recall import PrecisionRecall, precision_recall
from qk_bench.metrics.psnr import Psnr
from tests.metrics.items import scored
from tests.metrics.photographs import crops, disturbed, write_folder


class FewFid(Fid):
    """FID of few images, for tests only."""

    minimum = 10
    fewest = 6


class FewKid(Kid):
    """KID of few images, for tests only."""

    minimum = 10
    fewest = 6


class FewPrecisionRecall(PrecisionRecall):
    """Precision and recall of few images, for tests only."""

    minimum = 10
    fewest = 6


class Projection:
    """A real, quick extractor: 64 features by a fixed projection of the mean colours of an 8 × 8 grid."""

    id = "projection"
    name = "inception-tf"
    dimensions = 64

    def __init__(self) -> None:
        self.calls = 0
        self._matrix = np.random.default_rng(0).normal(size=(192, 64)).astype(np.float32)

    def __call__(self, images: Sequence[NDArray[np.uint8]]) -> Features:
        self.calls += len(images)
        grids = [i.reshape(8, i.shape[0] // 8, 8, i.shape[1] // 8, 3).mean(axis=(1, 3)) for i in images]
        return np.stack([grid.ravel() for grid in grids]).astype(np.float32) @ self._matrix


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two folders of unrelated photographs, a broken file among the first."""
    root = tmp_path_factory.mktemp("photographs")
    first = write_folder(root / "a", crops(12, 64, 0, ("astronaut", "coffee")))
    second = write_folder(root / "b", crops(12, 64, 1, ("china", "flower")))
    (first / "zz-broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return first, second


def test_two_folders_of_photographs_are_scored_with_the_broken_file_named(
    pinned_weights: None, folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("weights", "features"):
        (tmp_path / folder).mkdir()
    from qk_bench import weights

    (tmp_path / "weights" / "inception-tf.safetensors").symlink_to(weights.path("inception-tf"))
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path))
    metrics = {"fid": FewFid(), "kid": FewKid(), "precision-recall": FewPrecisionRecall(), "psnr": Psnr()}
    outputs, references = (Folder(folder) for folder in folders)
    found = {value.id: value for value in score_folders(outputs, references, metrics)}
    assert list(outputs.broken) == ["zz-broken.png"]
    assert not references.broken
    fid = found["fid[inception-tf,clean-resize,ref=folder,n=12]"]
    assert fid.value is not None
    assert fid.low is not None
    assert fid.high is not None
    assert fid.low <= fid.value <= fid.high
    assert "kid[inception-tf,clean-resize,subsets=100x1000,seed=0,ref=folder,n=12]" in found
    assert found["precision[inception-tf,clean-resize,k=3|5,ref=folder,n=12]"].value is not None
    assert found["psnr[cap=100]"].n == 12
    again = {value.id: value for value in score_folders(outputs, references, metrics)}
    assert again == found


def test_the_references_of_an_edit_are_its_targets_once_each(pinned_weights: None) -> None:
    targets = crops(12, 64, seed=5)
    items = [
        scored(disturbed(target, seed), index, seed, target=target)
        for index, target in enumerate(targets)
        for seed in range(2)
    ]
    (value,) = FewFid().compute(iter(items))
    assert value.id == "fid[inception-tf,clean-resize,ref=targets,n=24:12]"
    oracle = [scored(target, index, target=target) for index, target in enumerate(targets)]
    (best,) = FewFid().compute(iter(oracle))
    assert best.value == pytest.approx(0, abs=1e-3)
    assert best.high == pytest.approx(0, abs=1e-2)


def test_targets_of_failed_outcomes_are_references_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    monkeypatch.setattr(FewKid, "reader", lambda self: FeatureReader(Projection(), store))
    targets = crops(24, 64, seed=5)
    items = [scored(disturbed(target, 0), index, target=target) for index, target in enumerate(targets)]
    (value,) = FewKid().compute(iter([*items[:12], *(item.sample for item in items[12:])]))
    (expected,) = FewKid().compare([item.image for item in items[:12]], targets)
    assert value.id == "kid[inception-tf,clean-resize,subsets=100x1000,seed=0,ref=targets,n=12:24]"
    assert value.value == pytest.approx(expected.value, rel=1e-4)


def test_too_few_images_are_refused_with_the_minimum(pinned_weights: None) -> None:
    target = crops(1, 64, seed=5)[0]
    (value,) = Fid().compute(iter([scored(target, target=target)]))
    assert value.value is None
    assert "500" in value.reason


@pytest.mark.parametrize("metric", [FewFid, FewKid, FewPrecisionRecall])
def test_sets_of_very_different_size_have_a_value_without_an_interval(
    metric: type[FewFid | FewKid | FewPrecisionRecall], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(intervals, "LARGEST", 50)
    store = FeatureStore(tmp_path / "features.sqlite")
    monkeypatch.setattr(metric, "reader", lambda self: FeatureReader(Projection(), store))
    images = list(np.random.default_rng(0).integers(0, 256, (412, 8, 8, 3), dtype=np.uint8))
    for value in metric().compare(images[:12], images[12:]):  # an eighth of 12 images is no set
        assert value.value is not None
        assert (value.low, value.high) == (None, None)
        assert value.reason == (
            "no interval: subsets of the same share of both sets would hold fewer than 6 images of one"
        )


def test_shares_that_no_subset_moves_have_an_interval_of_some_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    monkeypatch.setattr(FewPrecisionRecall, "reader", lambda self: FeatureReader(Projection(), store))
    targets = crops(40, 64, seed=5)
    near = [scored(disturbed(t, 0, 2.0), i, target=t, cluster=f"c{i // 2}") for i, t in enumerate(targets)]
    precision, recall, _, coverage = FewPrecisionRecall().compute(iter(near))
    for share in (precision, recall, coverage):
        assert share.value == share.high == 1
        assert share.low is not None
        assert 0.75 < share.low < 0.9  # of 20 clusters
    black = [np.full((64, 64, 3), level, np.uint8) for level in range(40)]
    for nothing in FewPrecisionRecall().compare(black, [255 - image for image in black]):
        assert nothing.value == nothing.low == 0
        assert nothing.high is not None
        assert 0.05 < nothing.high < 0.2


def test_identical_sets_are_precise_and_recalled_however_often_an_image_repeats() -> None:
    rng = np.random.default_rng(0)
    rows = np.repeat(np.abs(rng.normal(0.4, 0.4, (60, 2048))).astype(np.float32), 6, axis=0)
    precision, recall, density, coverage = precision_recall(rows, rows[rng.permutation(len(rows))])
    assert (precision, recall, coverage) == (1, 1, 1)
    assert density == pytest.approx(6 / 5)


def test_raising_the_revision_leaves_no_stored_statistic_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    monkeypatch.setattr(FewFid, "reader", lambda self: FeatureReader(Projection(), store))
    first, second = crops(70, 64, seed=0), crops(70, 64, seed=1)  # more images than features: covariances are stored
    computed: list[int] = []
    real = fid.moments
    monkeypatch.setattr(fid, "moments", lambda *a: (computed.append(len(a[0])), real(*a))[1])
    FewFid().compare(first, second)
    assert computed.count(70) == 2
    FewFid().compare(first, second)
    assert computed.count(70) == 2
    monkeypatch.setattr(features, "REVISION", features.REVISION + 1)
    FewFid().compare(first, second)
    assert computed.count(70) == 4


def test_features_are_computed_once_per_content(tmp_path: Path) -> None:
    images = crops(20, 64, seed=0)
    first = Projection()
    store = FeatureStore(tmp_path / "features.sqlite")
    expected = _features(first, store, [*images, *images[:5]])
    assert first.calls == 20
    second = Projection()
    assert np.array_equal(
        _features(second, FeatureStore(tmp_path / "features.sqlite"), [*images, *images[:5]]), expected
    )
    assert second.calls == 0


def test_a_second_call_computes_nothing_but_reads_the_images(tmp_path: Path) -> None:
    first, second = crops(30, 64, seed=0), crops(30, 64, seed=1)
    extractors: list[Projection] = []
    estimates: list[int] = []

    class Counted(FewKid):
        """KID that counts what it computes."""

        def reader(self) -> FeatureReader:
            extractors.append(Projection())
            store = FeatureStore(tmp_path / "features.sqlite")
            return FeatureReader(extractors[-1], store)

        def estimate(self, sets: Sets) -> tuple[tuple[float, ...], NDArray[np.float64]]:
            estimates.append(1)
            return super().estimate(sets)

    once, again = Counted().compare(first, second), Counted().compare(first, second)
    assert once == again
    assert [extractor.calls for extractor in extractors] == [60, 0]
    assert len(estimates) == 1
    assert Counted().compare(first, second[::-1][:25]) != once  # other sets are other values
    assert len(estimates) == 2


def test_a_damaged_row_is_computed_again(tmp_path: Path) -> None:
    images = crops(4, 64, seed=0)
    store = FeatureStore(tmp_path / "features.sqlite")
    expected = _features(Projection(), store, images)
    with closing(sqlite3.connect(tmp_path / "features.sqlite")) as connection, connection:
        connection.execute("UPDATE arrays SET data = zeroblob(256) WHERE rowid = 2")
    extractor = Projection()
    assert np.allclose(_features(extractor, store, images), expected)
    assert extractor.calls == 1


def test_damage_met_while_reading_costs_time_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Opening a damaged file may go well: SQLite reads a page when it is asked for."""
    path = tmp_path / "features.sqlite"
    images = crops(40, 64, seed=0)
    expected = _features(Projection(), FeatureStore(path), images)
    data = path.read_bytes()
    path.write_bytes(data[:4096] + b"\x55" * (len(data) - 4096))
    extractor, store = Projection(), FeatureStore(path)
    assert np.allclose(_features(extractor, store, images), expected)
    assert np.allclose(_features(extractor, store, images), expected)
    assert extractor.calls == 40  # kept for this process
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: the feature cache {path} cannot be used: ")


@pytest.mark.parametrize("state", ["no folder", "read only", "damaged"])
def test_a_cache_that_cannot_be_used_costs_time_only(
    state: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("QK_BENCH_CACHE", str(tmp_path / "cache"))
    if state == "no folder":
        (tmp_path / "cache").write_bytes(b"")
    else:
        path = FeatureStore.of(Projection()).path
        assert path is not None
        data = bytearray(path.read_bytes()) if state == "read only" else bytearray(5000)
        data[18] = 3  # the version a program must know to write the file, which SQLite does not
        path.write_bytes(data)
    images = crops(4, 64, seed=0)
    extractors = [Projection(), Projection()]
    first, second = (_features(extractor, FeatureStore.of(extractor), images) for extractor in extractors)
    assert np.array_equal(first, second)
    assert [extractor.calls for extractor in extractors] == [4, 0]  # kept for this process
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"note: the feature cache {tmp_path / 'cache' / 'features'}")


def test_rows_that_can_no_longer_be_written_are_not_kept(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path / "features.sqlite")
    store.put([(b"a", b"1")])
    data = bytearray((tmp_path / "features.sqlite").read_bytes())
    data[18] = 3  # see above
    (tmp_path / "features.sqlite").write_bytes(data)
    store.put([(b"b", b"2")])
    assert store.get([b"a", b"b"]) == {b"a": b"1"}


def test_processes_share_the_store(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from qk_bench.metrics.features import FeatureStore\n"
        "store = FeatureStore(Path(sys.argv[1]))\n"
        "for i in range(40): store.put([(bytes([i, j]), bytes([i, j]) * 500) for j in range(20)])\n"
    )
    path = tmp_path / "features.sqlite"
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path)]) for _ in range(3)]
    assert [process.wait(120) for process in processes] == [0, 0, 0]
    keys = [bytes([i, j]) for i in range(40) for j in range(20)]
    assert FeatureStore(path).get(keys) == {key: key * 500 for key in keys}


def test_reading_holds_few_images_however_many_there_are(tmp_path: Path) -> None:
    alive: weakref.WeakSet[_Image] = weakref.WeakSet()
    most = 0

    def images() -> Iterator[NDArray[np.uint8]]:
        nonlocal most
        for number in range(400):
            image = np.full((8, 8, 3), number % 256, np.uint8).view(_Image)
            image[0, 0, 0] = number // 256
            alive.add(image)
            most = max(most, len(alive))
            yield image

    reader = FeatureReader(Projection(), FeatureStore(tmp_path / "features.sqlite"))
    for image in images():
        reader.add(image)
    assert most <= reader.chunk + 2


def test_large_images_are_not_held_until_there_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FeatureReader, "pixels", 3 * 64 * 64)
    extractor = Projection()
    reader = FeatureReader(extractor, FeatureStore(tmp_path / "features.sqlite"))
    calls = []
    for image in crops(7, 64, seed=0):
        reader.add(image)
        calls.append(extractor.calls)
    assert calls == [0, 0, 3, 3, 3, 6, 6]


def test_metrics_of_folders_read_each_file_once_and_share_features(
    folders: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    extractor = Projection()
    reader = FeatureReader(extractor, FeatureStore(tmp_path / "features.sqlite"))
    read: list[Path] = []
    real = Folder.read
    monkeypatch.setattr(Folder, "read", lambda self, file: (read.append(file), real(self, file))[1])
    for metric in (FewFid, FewKid, FewPrecisionRecall):
        monkeypatch.setattr(metric, "reader", lambda self: reader)
        monkeypatch.setattr(metric, "availability", lambda self: (True, ""))
    metrics = {"fid": FewFid(), "kid": FewKid(), "precision-recall": FewPrecisionRecall()}
    found = list(score_folders(*(Folder(folder) for folder in folders), metrics))
    assert all(score.value is not None for score in found)
    assert sorted(read) == sorted([*folders[0].iterdir(), *folders[1].iterdir()])
    assert extractor.calls == 24
    (tmp_path / "none").mkdir()
    for number in range(12):
        (tmp_path / "none" / f"{number}.png").write_bytes(b"this is no image")
    found = list(score_folders(Folder(tmp_path / "none"), Folder(folders[1]), metrics))
    assert {(score.value, score.reason.partition(";")[0]) for score in found} == {(None, "0 images")}


class _Image(np.ndarray):  # type: ignore[type-arg]
    """An array that can be counted while it lives."""

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:  # type: ignore[override]
        return self is other


def _features(extractor: Projection, store: FeatureStore, images: list[NDArray[np.uint8]]) -> Features:
    reader = FeatureReader(extractor, store)
    return reader.features([reader.add(image) for image in images])


@pytest.mark.parametrize("images", [10, 1000, 40_000, 1_000_000])
def test_blocks_of_rows_cover_all_and_hold_no_more_for_more_images(images: int) -> None:
    blocks = list(row_blocks(2000, images))
    assert sum(len(range(*block.indices(2000))) for block in blocks) == 2000
    assert max(len(range(*block.indices(2000))) * images for block in blocks) <= 1_000_000


def test_features_are_held_once(tmp_path: Path) -> None:
    reader = FeatureReader(Projection(), FeatureStore(tmp_path / "features.sqlite"))
    keys = [reader.add(image) for image in crops(6, 64, seed=0)]
    features = reader.features(keys)
    assert all(np.shares_memory(reader._rows[key], features) for key in keys)
