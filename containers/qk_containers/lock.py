"""The lock: which wheels an image holds, by the registry's hashes; and how they come into a folder."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qk_bench.errors import QKBenchError, UsageError, folded
from qk_containers.records import MismatchError, Variant

ARCHITECTURES: Final = {"linux/amd64": "x86_64", "linux/arm64": "aarch64"}
OLD_TAGS: Final = ("manylinux2014", "manylinux2010", "manylinux1", "linux")
MAX_BYTES: Final = 10_000_000
BLOCK: Final = 1 << 20

Scratch = Callable[[Path], AbstractContextManager[Path]]
"""From a folder to one in it that is gone at the end."""


class FetchError(QKBenchError):
    """Wheels could not be fetched (exit code 2)."""


@dataclass(frozen=True)
class Pin:
    """One line of a lock: a version, and the sha256 of every file the registry holds of it."""

    name: str
    version: str
    hashes: frozenset[str]


def lock_path(recipe: Path, variant: str, platform: str) -> Path:
    """Where the lock of a variant is."""
    return recipe / "locks" / f"{variant}-{platform.rpartition('/')[2]}.txt"


def file_digest(path: Path) -> str:
    """The sha256 of a file, as `sha256:…`."""
    with path.open("rb") as file:
        return "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()


def read_lock(path: Path) -> dict[str, Pin]:
    """The pins of a lock by name.

    Raises:
        UsageError: It cannot be read, or a line is no `name==version` with hashes.
    """
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES} bytes", "it is no lock")
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        raise UsageError(
            f"there is no lock {path}",
            "this variant is not made for this platform, or make it as docs/container.md says",
        ) from None
    pins: dict[str, Pin] = {}
    for line in text.replace("\\\n", " ").splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        requirement, *options = words
        hashes = frozenset(word.removeprefix("--hash=sha256:") for word in options if word.startswith("--hash=sha256:"))
        try:
            parsed = Requirement(requirement)
            (specifier,) = parsed.specifier
        except (InvalidRequirement, ValueError):
            raise UsageError(f"{path}: {folded(requirement)!r} is not name==version") from None
        if specifier.operator != "==" or len(hashes) != len(options) or not hashes:
            raise UsageError(f"{path}: {folded(requirement)}: one version with sha256 hashes is wanted")
        name = canonicalize_name(parsed.name)
        if name in pins:
            raise UsageError(f"{path}: {name} is there twice")
        pins[name] = Pin(name, specifier.version, hashes)
    return pins


def check_wheels(folder: Path, pins: Mapping[str, Pin]) -> dict[str, Path]:
    """The wheels of a folder by name, each checked against the lock; those that are absent are left out.

    Raises:
        MismatchError: A wheel is not what the lock says, or is not in it.
    """
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    wheels: dict[str, Path] = {}
    for path in sorted(folder.glob("*.whl")):
        try:
            name, version, _, _ = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            raise MismatchError(f"{path}: this is no name of a wheel", "delete it") from None
        pin = pins.get(name)
        if pin is None or pin.version != str(version):
            wanted = f"has {pin.name} {pin.version}" if pin else f"has no {name}"
            raise MismatchError(f"{path}: the lock {wanted}", "delete it, or name another folder with --wheels")
        if name in wheels:
            raise MismatchError(f"{path}: there are two wheels of {name}", "delete one")
        found = file_digest(path).removeprefix("sha256:")
        if found not in pin.hashes:
            raise MismatchError(
                f"{path}: sha256 {found} is not among those the lock has of {name} {pin.version}",
                "delete it and build again",
            )
        wheels[name] = path
    return wheels


def fetch(
    folder: Path, lock: Path, variant: Variant, platform: str, say: Callable[[str], None], scratch: Scratch
) -> dict[str, Path]:
    """The wheels of a lock by name: those in the folder, the rest fetched into it by pip and checked.

    Raises:
        UsageError: The folder cannot be made or written.
        FetchError: pip could not get one.
        MismatchError: A wheel is not what the lock says.
    """
    pins = read_lock(lock)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be made: {error.strerror}", "name another folder with --wheels") from None
    wheels = check_wheels(folder, pins)
    missing = [pin for name, pin in pins.items() if name not in wheels]
    if missing:
        say(f"fetching {len(missing)} of {len(pins)} wheels into {folder}")
        try:
            _download(folder, missing, variant, platform, scratch)
        except OSError as error:
            raise UsageError(
                f"{folder} cannot be written: {error.strerror}", "name another folder with --wheels"
            ) from None
        wheels = check_wheels(folder, pins)
    if absent := sorted(pins.keys() - wheels.keys()):
        raise FetchError(f"no wheel of {absent[0]} could be had")
    return wheels


def _download(folder: Path, pins: list[Pin], variant: Variant, platform: str, scratch: Scratch) -> None:
    """Fetch beside the folder and move whole wheels into it, so that none is ever half there."""
    others = [pin for pin in pins if "+" in pin.version]  # such as 2.13.0+cpu: pip's own index has no such versions
    with scratch(folder) as fetched:
        for wanted, index in (([pin for pin in pins if pin not in others], ""), (others, variant.index)):
            if wanted:
                _pip(fetched, wanted, index, variant, platform)
        for path in fetched.glob("*.whl"):
            shutil.move(path, folder / path.name)


def _pip(folder: Path, pins: list[Pin], index: str, variant: Variant, platform: str) -> None:
    wanted = folder / "wanted.txt"
    wanted.write_text("".join(_requirement(pin) for pin in pins), "utf-8")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--require-hashes", "--only-binary=:all:", "--requirement", str(wanted)]
    command += ["--dest", str(folder), "--implementation=cp", f"--python-version={variant.python}"]
    command += [f"--abi={abi}" for abi in (f"cp{variant.python.replace('.', '')}", "abi3", "none")]
    command += [f"--platform={tag}" for tag in platform_tags(variant, platform)]
    if index:
        command += ["--extra-index-url", index, "--retries=1"]
    beside = {**os.environ, "TMPDIR": str(folder)}  # else pip has each wheel in another disk's /tmp first
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=beside)
    if done.returncode == 0:
        return
    if "No space left on device" in done.stderr:
        raise FetchError(f"the disk of {folder.parent} is full", "free some, or name another folder with --wheels")
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR:")] or done.stderr.splitlines()
    said = folded(lines[0] if lines else f"exit code {done.returncode}")
    raise FetchError(f"pip could not fetch the wheels: {said}", "put them into a folder and name it with --wheels")


def _requirement(pin: Pin) -> str:
    return " ".join([f"{pin.name}=={pin.version}", *(f"--hash=sha256:{value}" for value in sorted(pin.hashes))]) + "\n"


def platform_tags(variant: Variant, platform: str) -> list[str]:
    """Tags of the wheels that run on a platform, newest C library first.

    Raises:
        UsageError: Nothing is known of the platform.
    """
    if platform not in ARCHITECTURES:
        raise UsageError(f"--platform {platform}", f"one of: {', '.join(ARCHITECTURES)}")
    machine = ARCHITECTURES[platform]
    major, newest = variant.glibc
    return [f"manylinux_{major}_{minor}_{machine}" for minor in range(newest, 4, -1)] + [
        f"{tag}_{machine}" for tag in OLD_TAGS
    ]
