"""Holds an image against `image.json`: base, lock, recipe, configuration, every file; says what differs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qk_bench.errors import QKBenchError, UsageError
from qk_bench.text import plain
from qk_containers.build import REPOSITORY, config_of, recipe_digest, wheel_folder
from qk_containers.engine import architecture, connect, translated
from qk_containers.guard import Session, session
from qk_containers.lock import check_wheels, file_digest, lock_path, read_lock
from qk_containers.project import checkout, project_wheel, wheel_files
from qk_containers.records import (
    RECIPE,
    Base,
    Expected,
    ImageFile,
    MismatchError,
    choose_variant,
    read_image_file,
)
from qk_containers.tree import PROJECT, Tree, differences, listing_path, read_listing, tree_of

if TYPE_CHECKING:
    from docker import DockerClient

SHOWN: Final = 10


@dataclass(frozen=True)
class Check:
    """One thing that was held against what it must be.

    Args:
        what: Such as `base` or `tree`.
        passed: None if it could not be looked at here.
        detail: What was found.
        lines: What differs, one path a line.
    """

    what: str
    passed: bool | None
    detail: str
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """What is to be verified; see `build.Order` for the fields."""

    variant: str = "default"
    platform: str | None = None
    base: Path | None = None
    wheels: Path | None = None
    wheel: Path | None = None
    recipe: Path = RECIPE
    tag: str | None = None


def verify(question: Question, say: Callable[[str], None]) -> list[Check]:
    """Every check of an image, in order; reading the whole of it takes seconds.

    Raises:
        UsageError: There is no such image, or image.json does not describe it.
    """
    image_file = read_image_file(question.recipe)
    choose_variant(image_file, question.variant)
    client = connect()
    try:
        platform = question.platform or architecture(client)
        tag = question.tag or f"{REPOSITORY}:{question.variant}"
        said = inspect(client, tag)
        layers = tuple(said["RootFS"]["Layers"])
        expected = _expected(image_file, question.variant, platform, layers)
        labels: dict[str, str] = said["Config"].get("Labels") or {}
        checks = [*_inputs(question, expected, platform), *_labels(labels, expected)]
        checks += [*_base(image_file.bases[expected.base], layers, question.base)]
        found = config_of(client, tag)
        differing = [
            name for name in type(found).model_fields if getattr(found, name) != getattr(expected.config, name)
        ]
        checks.append(
            Check("config", not differing, f"{', '.join(differing)}: not as recorded" if differing else found.user)
        )
        say("hashing the root file system")
        with session(client) as own:
            tree = tree_of(client, said["Id"], own.label)
            checks.append(_tree(question.recipe, expected, tree))
            checks.append(_project(question, tree.project, own))
        return checks
    finally:
        client.close()


def inspect(client: DockerClient, tag: str) -> dict[str, Any]:
    """What the engine says of an image.

    Raises:
        UsageError: It has none of that name.
    """
    from docker.errors import ImageNotFound

    with translated(f"looking at {tag}"):
        try:
            said: dict[str, Any] = client.api.inspect_image(tag)
        except ImageNotFound:
            raise UsageError(f"there is no image {tag}", "build it: qkbench container build") from None
    return said


def _expected(image_file: ImageFile, variant: str, platform: str, layers: tuple[str, ...]) -> Expected:
    """The entry of the base that the image stands on; the newest if it stands on none that is known."""
    for name, base in image_file.bases.items():
        entry = image_file.expected(variant, platform, name)
        if entry and layers[: len(base.layers)] == base.layers:
            return entry
    newest = image_file.expected(variant, platform)
    if newest is None:
        raise UsageError(f"image.json has no image of {variant} on {platform}", "record one: container build --record")
    return newest


def _inputs(question: Question, expected: Expected, platform: str) -> Iterator[Check]:
    lock = lock_path(question.recipe, question.variant, platform)
    found = file_digest(lock) if lock.is_file() else "absent"
    yield Check("lock", found == expected.lock, _either(str(lock), found, expected.lock))
    recipe = recipe_digest(question.recipe)
    yield Check("recipe", recipe == expected.recipe, _either(str(question.recipe), recipe, expected.recipe))
    folder = question.wheels or (wheel_folder(lock) if lock.is_file() else None)
    if folder is None or not folder.is_dir():
        yield Check("wheels", None, "none here to look at")
        return
    try:
        pins = read_lock(lock)
        wheels = check_wheels(folder, pins)
    except QKBenchError as error:
        yield Check("wheels", False, str(error))
    else:
        whole = True if len(wheels) == len(pins) else None
        yield Check("wheels", whole, f"{len(wheels)} of {len(pins)} are in {folder}, as locked")


def _either(what: str, found: str, expected: str) -> str:
    return f"{what}: {found}" if found == expected else f"{what}: {found}, image.json expects {expected}"


def _labels(labels: Mapping[str, str], expected: Expected) -> Iterator[Check]:
    wanted = {"variant": expected.variant, "lock": expected.lock, "recipe": expected.recipe}
    for name, value in wanted.items():
        found = plain(labels.get(f"org.qk-bench.{name}", "absent"))[:100]
        if found != value:
            yield Check("labels", False, f"the image was built with {name} {found}, image.json expects {value}")


def _base(base: Base, layers: tuple[str, ...], archive: Path | None) -> Iterator[Check]:
    stands = layers[: len(base.layers)]
    yield Check(
        "base", stands == base.layers, _either("the image stands on", ", ".join(stands), ", ".join(base.layers))
    )
    if archive is not None:
        found = file_digest(archive) if archive.is_file() else "absent"
        yield Check("base archive", found == base.digest, _either(str(archive), found, base.digest))


def _tree(recipe: Path, expected: Expected, tree: Tree) -> Check:
    digest = tree.digest()
    if digest == expected.tree:
        return Check("tree", True, f"{digest}, {len(tree.entries)} paths")
    detail = f"{digest}, image.json expects {expected.tree}"
    listing = read_listing(listing_path(recipe, expected.tree))
    if listing is None:
        return Check("tree", False, f"{detail}; no listing is stored to say which file differs")
    return Check("tree", False, detail, _bounded(differences(listing, tree.listing())))


def _project(question: Question, found: Mapping[str, str], own: Session) -> Check:
    if question.wheel is None and checkout() is None:
        return Check("project", None, "no checkout here to compare with; name its wheel with --wheel")
    with own.scratch() as scratch:
        wheel = wheel_files(question.wheel or project_wheel(scratch))
    lines = differences({k: f"file - - {v}" for k, v in wheel.items()}, {k: f"file - - {v}" for k, v in found.items()})
    source = question.wheel or checkout()
    if not lines:
        return Check("project", True, f"{len(wheel)} files as in {source}")
    return Check("project", False, f"not that of {source}", _bounded([f"{PROJECT}/{line}" for line in lines]))


def _bounded(lines: list[str]) -> tuple[str, ...]:
    more = [f"and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    return tuple(plain(line) for line in [*lines[:SHOWN], *more])


def require(checks: list[Check]) -> None:
    """Do nothing if no check failed.

    Raises:
        MismatchError: One did.
    """
    failed = [check.what for check in checks if check.passed is False]
    if failed:
        raise MismatchError(f"the image is not what image.json says: {', '.join(dict.fromkeys(failed))}")
