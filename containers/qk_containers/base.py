"""The base of an image: from an archive of a root file system, or by digest from a registry."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from qk_bench.errors import QKBenchError, UsageError
from qk_containers.engine import EngineError, explained, platform_of, translated
from qk_containers.lock import file_digest
from qk_containers.records import Base, ImageFile, MismatchError

if TYPE_CHECKING:
    from docker import DockerClient

REPOSITORY: Final = "qk-bench-base"
BLOCK: Final = 1 << 20
PINNED: Final = re.compile(r"^(?P<repository>[a-z0-9][a-z0-9._:/-]{0,254})@(?P<digest>sha256:[0-9a-f]{64})$")


class BaseMissingError(QKBenchError):
    """The base is not here (exit code 2)."""


def describe(text: str, platform: str, client: DockerClient) -> Base:
    """What `--base` names, as an entry of image.json; a base in a registry is pulled to learn its layers.

    Raises:
        UsageError: It is neither a tar archive nor `repository@sha256:…`.
        EngineError: The registry does not give it.
    """
    if pinned := PINNED.fullmatch(text):
        pulled = _pull(client, text, platform)
        return Base(
            digest=pinned["digest"],
            reference=pinned["repository"],
            layers=tuple(pulled["RootFS"]["Layers"]),
            platform=platform,
        )
    path = Path(text)
    if "@" in text and not path.exists():
        raise UsageError(f"--base {text}: a base in a registry is named repository@sha256:DIGEST")
    try:
        with tarfile.open(path, "r:") as archive:
            archive.next()
        digest = file_digest(path)
    except (OSError, tarfile.TarError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no uncompressed tar archive"
        raise UsageError(f"--base {text}: {why}", "docs/container.md says how a base is made") from None
    return Base(digest=digest, layers=(digest,), platform=platform)


def known(image_file: ImageFile, base: Base, name: str | None) -> str:
    """The name image.json has for a base.

    Args:
        image_file: Where it is looked up.
        base: What was named or found.
        name: The base that is wanted; any of the file if none.

    Raises:
        MismatchError: image.json does not know the base, it is not the one wanted, or it is for another platform.
    """
    found = image_file.base_by_digest(base.digest)
    wanted = image_file.bases.get(name) if name else None
    if found is None or (wanted and found != name):
        expected = wanted.digest if wanted else ", ".join(sorted(image_file.bases)) or "none"
        raise MismatchError(
            f"the base is {base.digest}, image.json expects {expected}",
            "use that base; a newer one is a new entry: add it with --record",
        )
    check_platform(image_file.bases[found], found, base.platform)
    if image_file.bases[found].layers != base.layers:
        raise MismatchError(f"the layers of base {found} are not those image.json has", "fetch the base again")
    return found


def check_platform(base: Base, name: str, platform: str) -> None:
    """Refuse a base for another platform than the image's.

    Raises:
        MismatchError: It is.
    """
    if base.platform != platform:
        raise MismatchError(f"base {name} is for {base.platform}, the image for {platform}", "name another with --base")


def provide(client: DockerClient, base: Base, source: str | None) -> str:
    """Have the base in the engine, checked; gives the reference to build FROM.

    Args:
        client: The engine.
        base: What image.json says of it.
        source: The archive; needed only if the engine does not hold the base yet.

    Raises:
        BaseMissingError: The engine does not hold it and no archive is named.
        MismatchError: What the engine holds under its name is something else.
    """
    if base.reference:
        reference = f"{base.reference}@{base.digest}"
        _check_layers(_pull(client, reference, base.platform), base, reference)
        return reference
    reference = f"{REPOSITORY}:{base.digest.removeprefix('sha256:')[:16]}"
    held = _inspect(client, reference)
    if held is None:
        if source is None:
            made = f"make it by `{base.made_by}`" if base.made_by else "make it as docs/container.md says"
            raise BaseMissingError(f"the base {base.digest} is not here", f"{made}, then name it with --base")
        _load(client, Path(source), base, reference)
        held = _inspect(client, reference)
    _check_layers(held, base, reference)
    return reference


def _check_layers(held: dict[str, Any] | None, base: Base, reference: str) -> None:
    if held is None or tuple(held["RootFS"]["Layers"]) != base.layers:
        raise MismatchError(
            f"{reference} is not the base that image.json names", f"remove it (docker rmi {reference}) and build again"
        )


def _inspect(client: DockerClient, reference: str) -> dict[str, Any] | None:
    from docker.errors import ImageNotFound

    with translated(f"looking for {reference}"):
        try:
            found: dict[str, Any] = client.api.inspect_image(reference)
        except ImageNotFound:
            return None
    return found


def _pull(client: DockerClient, reference: str, platform: str) -> dict[str, Any]:
    held = _inspect(client, reference)
    if held is None or platform_of(held) != platform:  # one digest may stand for the images of several platforms
        repository, _, digest = reference.partition("@")
        with translated(f"pulling {reference}"):
            for line in client.api.pull(repository, tag=digest, platform=platform, stream=True, decode=True):
                if "error" in line:
                    raise explained(str(line["error"]), f"pulling {reference}")
        held = _inspect(client, reference)
    if held is None or platform_of(held) != platform:
        raise EngineError(f"the registry did not give {reference} for {platform}")
    return held


def _load(client: DockerClient, path: Path, base: Base, reference: str) -> None:
    """Load a root file system as an image whose ID depends on nothing but its content."""
    with translated("loading the base"):
        for line in client.api.load_image(_image_archive(path, base, reference)):
            if "error" in line:
                raise explained(str(line["error"]), "loading the base")


def _image_archive(path: Path, base: Base, reference: str) -> Iterator[bytes]:
    """An image archive of one layer, as `docker load` takes it."""
    system, _, architecture = base.platform.partition("/")
    config = json.dumps(
        {
            "architecture": architecture,
            "os": system,
            "created": "1970-01-01T00:00:00Z",
            "config": {},
            "history": [{"created": "1970-01-01T00:00:00Z", "created_by": f"qkbench: archive {base.digest}"}],
            "rootfs": {"type": "layers", "diff_ids": list(base.layers)},
        },
        sort_keys=True,
    ).encode()
    name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps([{"Config": name, "RepoTags": [reference], "Layers": ["layer.tar"]}]).encode()
    yield from tar_stream([(name, config), ("layer.tar", path), ("manifest.json", manifest)])


def tar_stream(members: list[tuple[str, bytes | Path]]) -> Iterator[bytes]:
    """A tar archive as it is sent: nothing of it lies on disk, and the same members give the same bytes.

    Args:
        members: Name in the archive, and content or the file that holds it. A name that ends in `*` is executable.
    """
    for name, source in members:
        info = tarfile.TarInfo(name.removesuffix("*"))
        info.mode = 0o755 if name.endswith("*") else 0o644
        info.size = len(source) if isinstance(source, bytes) else source.stat().st_size
        yield info.tobuf(tarfile.PAX_FORMAT)
        with io.BytesIO(source) if isinstance(source, bytes) else source.open("rb") as file:
            left = info.size
            while left:
                block = file.read(min(BLOCK, left))
                if not block:
                    raise UsageError(f"{source!s} became shorter while it was read", "start again")
                left -= len(block)
                yield block
        yield b"\0" * (-info.size % tarfile.BLOCKSIZE)
    yield b"\0" * (2 * tarfile.BLOCKSIZE)
