"""What is read from files: locks, image.json, wheels, listings, exported trees."""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from container_parts import write_wheel
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from qk_containers.base import known, tar_stream
from qk_containers.build import recipe_digest
from qk_containers.debian import documented, installed
from qk_containers.guard import Session
from qk_containers.lock import check_wheels, fetch, file_digest, lock_path, platform_tags, read_lock
from qk_containers.project import project_wheel, wheel_files
from qk_containers.records import RECIPE, Expected, MismatchError, read_image_file
from qk_containers.sbom import bill_of_materials
from qk_containers.tree import Tree, differences, listing_path, read_listing, read_tree, write_listing

from qk_bench.errors import UsageError

LOCKS = sorted((RECIPE / "locks").glob("*.txt"))
ROOT = RECIPE.parent.parent


PAGE = (ROOT / "docs" / "container.md").read_text("utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"].keys() - {"container", "dev", "peers"}
"""Extras of what runs in an image; the rest builds and tests."""


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_that_ships_satisfies_the_project(lock: Path) -> None:
    pins = read_lock(lock)
    extras = set() if lock.stem.startswith("micro") else EXTRAS
    made_with = re.findall(r"--extra (\w+)", lock.read_text("utf-8").splitlines()[1])
    assert set(made_with) == extras
    for text in [*PROJECT["dependencies"], *(r for extra in extras for r in PROJECT["optional-dependencies"][extra])]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pins[canonicalize_name(requirement.name)].version), text


def test_the_page_names_the_extras_and_counts_the_wheels_of_the_locks() -> None:
    (line,) = (line for line in PAGE.splitlines() if line.startswith("all='"))
    assert set(re.findall(r"--extra (\w+)", line)) == EXTRAS
    rows = dict(re.findall(r"^\| `(\w+)` \|.*\| (\d+) \| [\w, ]+ \|$", PAGE, re.MULTILINE))
    assert rows.keys() == read_image_file(RECIPE).variants.keys()
    assert {lock.stem: str(len(read_lock(lock))) for lock in LOCKS} == {
        lock.stem: rows[lock.stem.rpartition("-")[0]] for lock in LOCKS
    }


@pytest.mark.parametrize("entry", read_image_file(RECIPE).images, ids=lambda entry: entry.variant)
def test_an_image_that_is_recorded_is_made_of_the_files_that_ship(entry: Expected) -> None:
    lock = lock_path(RECIPE, entry.variant, entry.platform)
    assert (entry.lock, entry.recipe) == (file_digest(lock), recipe_digest(RECIPE))
    listing = read_listing(listing_path(RECIPE, entry.tree))
    assert listing is not None and len(listing) == entry.files
    bill = json.loads((RECIPE / "sboms" / f"{lock.stem}.cdx.json").read_text("utf-8"))
    kinds = {kind: [c for c in bill["components"] if c["purl"].startswith(f"pkg:{kind}/")] for kind in ("pypi", "deb")}
    locked = {pin.name: pin for pin in read_lock(lock).values()}
    assert {canonicalize_name(c["name"]): c["version"] for c in kinds["pypi"]} == {
        name: pin.version for name, pin in locked.items()
    }
    assert all(c["hashes"][0]["content"] in locked[canonicalize_name(c["name"])].hashes for c in kinds["pypi"])
    documents = {path.split("/")[3] for path in listing if re.match("usr/share/doc/[^/.]+$", path)}
    assert documents <= {c["name"] for c in kinds["deb"]} and documents


def test_packages_that_dpkg_does_not_list_are_known_by_their_changelogs() -> None:
    def changelog(version: str, name: str = "tool") -> bytes:
        return gzip.compress(f"{name} ({version}) bookworm; urgency=medium\n\n  * Text.\n".encode())

    files = {
        "doc/tool/changelog.gz": gzip.compress(b"2020-01-01 upstream speaks its own way\n"),
        "doc/tool/changelog.Debian.gz": changelog("1:2.0-1"),
        "doc/tool/changelog.Debian.amd64.gz": changelog("1:2.0-1+b2"),
        "doc/native/changelog.gz": changelog("7", "source-of-native"),
        "doc/none/copyright": b"text",
    }
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as made:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            made.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("doc/libtool")
        link.type, link.linkname = tarfile.SYMTYPE, "tool"
        made.addfile(link)
    assert documented([buffer.getvalue()]) == [
        ("libtool", "1:2.0-1+b2", ""),
        ("native", "7", ""),
        ("tool", "1:2.0-1+b2", ""),
    ]
    assert documented([]) == installed([]) == []


def test_bills_of_other_locks_on_one_base_have_serial_numbers_of_their_own() -> None:
    first, again, other = (
        json.loads(bill_of_materials("image", f"base {lock}", {}, []))["serialNumber"] for lock in "aab"
    )
    assert first == again != other


def test_a_base_for_another_platform_is_refused() -> None:
    image_file = read_image_file(RECIPE)
    ((name, base),) = image_file.bases.items()
    assert known(image_file, base, name) == name
    with pytest.raises(MismatchError, match=f"base {name} is for linux/amd64, the image for linux/arm64"):
        known(image_file, base.model_copy(update={"platform": "linux/arm64"}), None)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_that_ships_names_no_machine(lock: Path) -> None:
    text = lock.read_text("utf-8")
    assert not re.search(r"https?://|file:|(?:^|[\s=])/\w", text)
    assert lock.stem.rpartition("-")[0] in read_image_file(RECIPE).variants


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("numpy>=2 --hash=sha256:" + "0" * 64, "one version with sha256 hashes"),
        ("numpy==2.0", "one version with sha256 hashes"),
        ("numpy==2.0 --hash=md5:0", "one version with sha256 hashes"),
        ("-e .", "is not name==version"),
        ("numpy @ file:///x --hash=sha256:0", "is not name==version"),
        (f"a==1 --hash=sha256:{'0' * 64}\nA==1 --hash=sha256:{'0' * 64}", "twice"),
    ],
)
def test_a_lock_without_hashes_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "lock.txt").write_text(text)
    with pytest.raises(UsageError, match=found):
        read_lock(tmp_path / "lock.txt")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "file"),
        ("{}", "variants"),
        ('{"variants": {"a": 1}}', "variants.a"),
        ('{"variants": {}, "more": 1}', "more"),
    ],
)
def test_a_bad_image_json_is_one_line_that_names_the_field(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "image.json").write_text(content)
    with pytest.raises(UsageError, match=re.escape(f"image.json: {found}")):
        read_image_file(tmp_path)


def test_wheels_that_are_not_locked_are_refused(tmp_path: Path) -> None:
    wheel = write_wheel(tmp_path / "tiny-1.0-py3-none-any.whl", "tiny", "1.0", {"tiny.py": ""})
    with pytest.raises(MismatchError, match="the lock has no tiny"):
        check_wheels(tmp_path, {})
    wheel.rename(tmp_path / "tiny.whl")
    with pytest.raises(MismatchError, match="no name of a wheel"):
        check_wheels(tmp_path, {})


@pytest.mark.skipif(sys.platform != "linux", reason="wants a folder that not even root may write to")
def test_wheels_are_not_fetched_into_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "lock.txt").write_text("tiny==1.0 --hash=sha256:" + "0" * 64)
    variant = read_image_file(RECIPE).variants["default"]
    with pytest.raises(UsageError, match=r"/sys cannot be written: .* \(name another folder with --wheels\)"):
        fetch(
            Path("/sys"),
            tmp_path / "lock.txt",
            variant,
            "linux/amd64",
            lambda line: None,
            Session("", io.BytesIO()).scratch,
        )


def test_wheels_of_older_c_libraries_are_taken_and_of_newer_ones_not() -> None:
    variant = read_image_file(RECIPE).variants["default"]
    tags = platform_tags(variant, "linux/amd64")
    assert {"manylinux_2_28_x86_64", "manylinux_2_36_x86_64", "manylinux2014_x86_64"} <= set(tags)
    assert "manylinux_2_39_x86_64" not in tags


def archive(change: Callable[[tarfile.TarInfo], None] = lambda info: None, order: int = 1) -> bytes:
    """A small root file system: a folder, a file, its second name, a link and a device."""
    buffer = io.BytesIO()
    members = []
    for name, kind, content in (
        ("etc", tarfile.DIRTYPE, b""),
        ("etc/word", tarfile.REGTYPE, b"word"),
        ("etc/link", tarfile.SYMTYPE, b""),
        ("null", tarfile.CHRTYPE, b""),
    ):
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mode, info.mtime = kind, len(content), 0o644, 5
        info.linkname = "word" if kind == tarfile.SYMTYPE else ""
        change(info)
        members.append((info, content))
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as made:
        for info, content in members[::order]:
            made.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def tree(data: bytes, block: int = 100) -> Tree:
    return read_tree(data[i : i + block] for i in range(0, len(data), block))


def test_the_tree_hash_depends_on_neither_times_nor_order_nor_blocks() -> None:
    def later(info: tarfile.TarInfo) -> None:
        info.mtime = 1_000_000_000

    first = tree(archive())
    assert first.digest() == tree(archive(later)).digest() == tree(archive(order=-1), 7777).digest()
    assert len(first.entries) == 4 and first.size == 4


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("etc/word", "mode", 0o755),
        ("etc/word", "uid", 7),
        ("etc/link", "linkname", "elsewhere"),
        ("null", "devminor", 3),
        ("etc", "gid", 7),
        ("etc/word", "pax_headers", {"SCHILY.xattr.security.capability": "\x01\x02"}),
        ("etc/word", "name", "etc/other"),
    ],
)
def test_the_tree_hash_depends_on_everything_else(name: str, field: str, value: object) -> None:
    def change(info: tarfile.TarInfo) -> None:
        if info.name == name:
            setattr(info, field, value)

    before, after = tree(archive()), tree(archive(change))
    assert before.digest() != after.digest()
    assert any(line.startswith(name) for line in differences(before.listing(), after.listing()))


def test_what_engines_add_is_no_part_of_the_tree() -> None:
    def rename(info: tarfile.TarInfo) -> None:
        info.name = {"null": "dev/null", "etc/word": "etc/hosts", "etc/link": "etc/mtab"}.get(info.name, info.name)

    assert list(tree(archive(rename)).entries) == ["etc"]


def test_a_listing_comes_back_as_it_was(tmp_path: Path) -> None:
    listing = tree(archive()).listing()
    write_listing(tmp_path / "a.gz", listing)
    write_listing(tmp_path / "b.gz", dict(reversed(listing.items())))
    assert read_listing(tmp_path / "a.gz") == listing
    assert (tmp_path / "a.gz").read_bytes() == (tmp_path / "b.gz").read_bytes()
    (tmp_path / "a.gz").write_bytes(b"nothing")
    with pytest.raises(UsageError, match="damaged"):
        read_listing(tmp_path / "a.gz")


def test_what_is_sent_to_the_engine_is_an_archive(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"x" * 3_000_001)
    data = b"".join(tar_stream([("a", b"1"), ("bin/b*", tmp_path / "file")]))
    with tarfile.open(fileobj=io.BytesIO(data)) as sent:
        members = {member.name: member for member in sent}
        assert (members["a"].mode, members["bin/b"].mode) == (0o644, 0o755)
        assert members["bin/b"].size == 3_000_001
    assert len(data) % 512 == 0


def test_the_same_checkout_packs_to_the_same_wheel(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    first, second = (project_wheel(tmp_path / name) for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    files = wheel_files(first)
    assert {"qk_bench/cli/container.py", "qk_containers/Containerfile", "qk_containers/image.json"} <= files.keys()
    assert json.loads((RECIPE / "image.json").read_text())["format"] == "qk-bench image"
