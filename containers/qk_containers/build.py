"""Builds the image: locked wheels, a checked base, no network; then hashes what came out."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qk_bench.errors import UsageError
from qk_bench.weights import cache_folder
from qk_containers import base as bases
from qk_containers.debian import debian_packages
from qk_containers.engine import architecture, connect, translated
from qk_containers.guard import session
from qk_containers.lock import fetch, file_digest, lock_path, platform_tags, read_lock
from qk_containers.project import project_wheel, revision
from qk_containers.records import (
    RECIPE,
    Base,
    Config,
    Expected,
    ImageFile,
    MismatchError,
    choose_variant,
    read_image_file,
    write_image_file,
)
from qk_containers.sbom import bill_of_materials, wheel_metadata
from qk_containers.steps import BuildLog, Step
from qk_containers.tree import differences, listing_path, read_listing, tree_of, write_listing

if TYPE_CHECKING:
    from docker import DockerClient

    from qk_containers.tree import Tree

REPOSITORY: Final = "qk-bench"
TOLD: Final = ("numpy", "pillow", "pyarrow", "scipy", "torch", "diffusers", "transformers")
"""Wheels whose versions are told in a label."""
SHOWN: Final = 5


@dataclass(frozen=True)
class Order:
    """What is to be built.

    Args:
        variant: A variant of image.json.
        platform: Such as `linux/amd64`; the engine's own if none.
        base: An archive, or `repository@sha256:…`; what image.json names if none.
        base_name: What a new base is to be called in image.json.
        wheels: Folder of the locked wheels; one of the cache folder if none.
        wheel: The project's own wheel; made from the checkout if none.
        recipe: Folder of the Containerfile, image.json and the locks.
        tag: Name of the image; `qk-bench:<variant>` if none.
        record: Write what came out into image.json, instead of holding it against that.
        sbom: Where a bill of materials is written.
    """

    variant: str = "default"
    platform: str | None = None
    base: str | None = None
    base_name: str | None = None
    wheels: Path | None = None
    wheel: Path | None = None
    recipe: Path = RECIPE
    tag: str | None = None
    record: bool = False
    sbom: Path | None = None


@dataclass(frozen=True)
class Built:
    """What was built."""

    tag: str
    image: str
    tree: str
    files: int
    size: int
    seconds: float
    steps: list[Step] = field(default_factory=list)


def build(order: Order, say: Callable[[str], None]) -> Built:
    """Build an image and hold it against image.json. Nothing is left of a build that fails or is stopped.

    Raises:
        MismatchError: Base, lock, recipe or result is not what image.json says.
        StepError: A step failed.
    """
    started = time.perf_counter()
    image_file = read_image_file(order.recipe)
    variant = choose_variant(image_file, order.variant)
    _check_outputs(order)
    client = connect()
    try:
        platform = order.platform or architecture(client)
        platform_tags(variant, platform)  # refuses a platform nothing is known of
        lock = lock_path(order.recipe, order.variant, platform)
        with session(client) as own, own.scratch() as scratch:
            base, name = _choose_base(client, order, image_file, platform)
            expected = image_file.expected(order.variant, platform, name)
            if not order.record:
                _check_inputs(order, expected, lock, name)
            read_lock(lock)  # refuses what is none
            wheels = fetch(order.wheels or wheel_folder(lock), lock, variant, platform, say, own.scratch)
            wheel = order.wheel or project_wheel(scratch)
            reference = bases.provide(client, base, None if base.reference else order.base)
            say(f"base {name}: {base.digest}")
            bill = _bill(client, order, reference, own.label, platform, lock, wheels)
            log = BuildLog(client, say)
            arguments = {"BASE": reference, "SESSION": own.label}
            image = _build(
                client,
                log,
                order,
                lock,
                wheels,
                wheel,
                platform,
                arguments,
                _labels(order, base, name, lock, wheels, wheel),
            )
            say("hashing the root file system")
            tree = tree_of(client, image, own.label)
            found = Expected(
                variant=order.variant,
                platform=platform,
                base=name,
                lock=file_digest(lock),
                recipe=recipe_digest(order.recipe),
                tree=tree.digest(),
                files=len(tree.entries),
                config=config_of(client, image),
            )
            if not order.record:
                assert expected is not None
                _check_result(order, expected, found, tree)
            _write(order, image_file.with_entry(name, base, found), found, tree, bill)
            tag = order.tag or f"{REPOSITORY}:{order.variant}"
            _name(client, image, tag)
            return Built(tag, image, found.tree, found.files, tree.size, time.perf_counter() - started, log.steps)
    finally:
        client.close()


def _name(client: DockerClient, image: str, tag: str) -> None:
    """Give an image its name; the one that had it goes, unless something uses it."""
    from docker.errors import APIError, ImageNotFound

    repository, _, version = tag.rpartition(":") if ":" in tag.rpartition("/")[2] else (tag, "", "latest")
    with translated("naming the image"):
        try:
            before = client.api.inspect_image(tag)["Id"]
        except ImageNotFound:
            before = None
        client.api.tag(image, repository, version, force=True)
        if before and not client.api.inspect_image(before)["RepoTags"]:
            with contextlib.suppress(APIError):
                client.api.remove_image(before)


def wheel_folder(lock: Path) -> Path:
    """Where the wheels of a lock are kept: a folder of their own, so that nothing else is in it."""
    return cache_folder() / "wheels" / file_digest(lock).removeprefix("sha256:")[:16]


def recipe_digest(recipe: Path) -> str:
    """The sha256 of the Containerfile and the files it copies: names and contents."""
    h = hashlib.sha256()
    for name, source in _recipe_files(recipe):
        h.update(f"{name}\0{file_digest(source)}\n".encode())
    return f"sha256:{h.hexdigest()}"


def _recipe_files(recipe: Path) -> list[tuple[str, Path]]:
    """Files of a recipe by name in the build's context; programs are those in a folder `bin`."""
    container = recipe / "Containerfile"
    if not container.is_file():
        raise UsageError(f"there is no {container}", "name the folder of a recipe")
    copied = sorted(
        path for path in (recipe / "files").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    )
    names = [f"{path.relative_to(recipe).as_posix()}{'*' if path.parent.name == 'bin' else ''}" for path in copied]
    return [("Containerfile", container), *zip(names, copied, strict=True)]


def config_of(client: DockerClient, image: str) -> Config:
    """How programs in an image run."""
    with translated(f"looking at {image}"):
        said: dict[str, Any] = client.api.inspect_image(image)["Config"]
    return Config(
        user=said.get("User") or "",
        env=tuple(sorted(said.get("Env") or ())),
        entrypoint=tuple(said.get("Entrypoint") or ()),
        command=tuple(said.get("Cmd") or ()),
        working_dir=said.get("WorkingDir") or "",
    )


def _choose_base(client: DockerClient, order: Order, image_file: ImageFile, platform: str) -> tuple[Base, str]:
    """The base, and what image.json calls it (or will call it)."""
    if order.base is None:
        entry = image_file.expected(order.variant, platform, order.base_name)
        name = order.base_name or (entry.base if entry else None)
        if name is None or name not in image_file.bases:
            raise bases.BaseMissingError(
                f"image.json names no base for {order.variant} on {platform}", "name one with --base, and --record"
            )
        bases.check_platform(image_file.bases[name], name, platform)
        return image_file.bases[name], name
    base = bases.describe(order.base, platform, client)
    if order.record and image_file.base_by_digest(base.digest) is None:
        name = order.base_name or f"base-{base.digest.removeprefix('sha256:')[:12]}"
        if name in image_file.bases:
            raise UsageError(
                f"--base-name {name} is another base already", "a newer base is a new entry: choose another name"
            )
        return base, name
    name = bases.known(image_file, base, order.base_name)
    return image_file.bases[name], name


def _check_outputs(order: Order) -> None:
    """Refuse, before an hour of building, what could not be written after it."""
    folders = [order.sbom.absolute().parent] if order.sbom else []
    for folder in [*folders, *([order.recipe] if order.record else [])]:
        if not os.access(folder, os.W_OK | os.X_OK):
            raise UsageError(f"{folder} is no folder that can be written", "name another one")


def _check_inputs(order: Order, expected: Expected | None, lock: Path, base: str) -> None:
    """Refuse to build what image.json does not describe.

    Raises:
        MismatchError: There is no entry, or lock or recipe were changed.
    """
    mend = "take the file from the repository again, or record a new image with --record"
    if expected is None:
        raise MismatchError(f"image.json has no image of {order.variant} on base {base}", "add it with --record")
    if not lock.is_file():
        raise UsageError(f"there is no lock {lock}", "make it as docs/container.md says")
    if (found := file_digest(lock)) != expected.lock:
        raise MismatchError(f"{lock}: its hash is {found}, image.json expects {expected.lock}", mend)
    if (found := recipe_digest(order.recipe)) != expected.recipe:
        raise MismatchError(
            f"{order.recipe / 'Containerfile'} or files/: their hash is {found}, image.json expects {expected.recipe}",
            mend,
        )


def _check_result(order: Order, expected: Expected, found: Expected, tree: Tree) -> None:
    if found.config != expected.config:
        raise MismatchError(f"the configuration of the image is {found.config}, image.json expects {expected.config}")
    if found.tree == expected.tree:
        return
    listing = read_listing(listing_path(order.recipe, expected.tree))
    lines = differences(listing, tree.listing()) if listing else []
    which = f"; {len(lines)} paths differ, such as {'; '.join(lines[:SHOWN])}" if lines else ""
    raise MismatchError(f"the tree hash is {found.tree}, image.json expects {expected.tree}{which}")


def _build(
    client: DockerClient,
    log: BuildLog,
    order: Order,
    lock: Path,
    wheels: Mapping[str, Path],
    wheel: Path,
    platform: str,
    arguments: dict[str, str],
    labels: dict[str, str],
) -> str:
    members: list[tuple[str, bytes | Path]] = [
        *_recipe_files(order.recipe),
        ("lock.txt", lock),
        *((f"wheels/{path.name}", path) for _, path in sorted(wheels.items())),
        ("project.whl", wheel),
    ]
    with translated("the build"):
        stream = client.api.build(
            fileobj=bases.tar_stream(members),
            custom_context=True,
            dockerfile="Containerfile",
            buildargs=arguments,
            labels=labels,
            network_mode="none",
            rm=True,
            forcerm=True,
            nocache=True,
            platform=None if platform == architecture(client) else platform,
            decode=True,
        )
        with contextlib.closing(stream):
            return log.follow(stream)


def _labels(order: Order, base: Base, name: str, lock: Path, wheels: Mapping[str, Path], wheel: Path) -> dict[str, str]:
    stated = {key: wheel_metadata(path) for key, path in wheels.items()}
    own = wheel_metadata(wheel)
    licences = sorted({own["expression"], *(about["expression"] for about in stated.values())} - {""})
    return {
        "org.opencontainers.image.title": "qk-bench",
        "org.opencontainers.image.version": own["version"],
        "org.opencontainers.image.revision": revision(),
        "org.opencontainers.image.licenses": " AND ".join(f"({x})" if " " in x else x for x in licences),
        "org.opencontainers.image.base.name": f"{base.reference}@{base.digest}" if base.reference else name,
        "org.opencontainers.image.base.digest": base.digest,
        "org.qk-bench.variant": order.variant,
        "org.qk-bench.lock": file_digest(lock),
        "org.qk-bench.recipe": recipe_digest(order.recipe),
        "org.qk-bench.wheel": file_digest(wheel),
        "org.qk-bench.versions": json.dumps({key: stated[key]["version"] for key in TOLD if key in stated}),
    }


def _bill(
    client: DockerClient, order: Order, base: str, label: str, platform: str, lock: Path, wheels: Mapping[str, Path]
) -> str:
    packages = debian_packages(client, base, label)
    return bill_of_materials(f"qk-bench {order.variant} {platform}", f"{base} {file_digest(lock)}", wheels, packages)


def _write(order: Order, image_file: ImageFile, found: Expected, tree: Tree, bill: str) -> None:
    """Write the files that were asked for."""
    try:
        if order.sbom:
            order.sbom.write_text(bill, "utf-8")
        if order.record:
            path = order.recipe / "sboms" / f"{found.variant}-{found.platform.rpartition('/')[2]}.cdx.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(bill, "utf-8")
            write_listing(listing_path(order.recipe, found.tree), tree.listing())
            write_image_file(order.recipe, image_file)
    except OSError as error:
        raise UsageError(f"{error.filename or order.recipe} cannot be written: {error.strerror}") from None
