"""The Debian packages of a base: by dpkg's list of them, or by their changelogs where that list is empty."""

from __future__ import annotations

import contextlib
import re
import tarfile
import zlib
from collections.abc import Iterable, Iterator
from email.parser import HeaderParser
from itertools import chain
from typing import IO, TYPE_CHECKING, Final, cast

from qk_containers.engine import SESSION_LABEL, translated
from qk_containers.records import MismatchError
from qk_containers.tree import StreamReader

if TYPE_CHECKING:
    from docker import DockerClient

STATUS: Final = "/var/lib/dpkg/status"
DOCUMENTS: Final = "/usr/share/doc"
MAX_STATUS: Final = 50_000_000
MAX_DOCUMENTS: Final = 1_000_000_000
HEAD: Final = 4096
"""Compressed bytes of a changelog that are read: its first line is wanted."""
GZIP: Final = 16 + zlib.MAX_WBITS
CHANGELOG: Final = re.compile(r"^[^/]+/([^/]+)/(changelog(?:\.Debian(?:\.\w+)?)?)\.gz$")
ENTRY: Final = re.compile(r"^[a-z0-9][a-z0-9+.-]+ \(([0-9A-Za-z.+~:-]+)\) [^;]*; *urgency=")

Package = tuple[str, str, str]
"""Name, version and architecture; the latter is empty where it is not known."""


def debian_packages(client: DockerClient, image: str, session: str) -> list[Package]:
    """The Debian packages in an image; none if it is not made of any.

    mmdebstrap's variant `extract`, of which the documented base is, leaves dpkg's list empty.
    """
    with translated(f"reading the packages of {image}"):
        made = client.api.create_container(image, command=["-"], labels={SESSION_LABEL: session})["Id"]
        try:
            return installed(_archive(client, made, STATUS, MAX_STATUS)) or documented(
                _archive(client, made, DOCUMENTS, MAX_DOCUMENTS)
            )
        finally:
            client.api.remove_container(made, force=True, v=True)


def installed(archive: Iterable[bytes]) -> list[Package]:
    """The packages that dpkg's list names.

    Args:
        archive: A tar archive of that file; nothing if there is none.
    """
    text = ""
    for _, content in _members(archive, MAX_STATUS):
        text = content.decode("utf-8", "replace")
    records = (HeaderParser().parsestr(part) for part in text.split("\n\n") if part.strip())
    return sorted(
        (r["Package"], r["Version"], r["Architecture"] or "") for r in records if r["Package"] and r["Version"]
    )


def documented(archive: Iterable[bytes]) -> list[Package]:
    """The packages that have a changelog, in the versions of its newest entry.

    Each Debian package has one, or is a link to another of the same source (Debian Policy, 12.5 and 12.7). Where a
    package was only built again, the version is that of the architecture's own changelog.

    Args:
        archive: A tar archive of /usr/share/doc; nothing if there is none.
    """
    versions: dict[str, tuple[int, str]] = {}
    links: dict[str, str] = {}
    for member, content in _members(archive, HEAD):
        path = member.name.removeprefix("./")
        if member.issym() and path.count("/") == 1:
            links[path.rpartition("/")[2]] = member.linkname.rpartition("/")[2]
        elif member.isreg() and (found := CHANGELOG.match(path)):
            name, kind = found.groups()
            rank = kind.count(".")  # the architecture's own, then Debian's, then that of a package made for Debian
            if (version := _newest(content)) and rank >= versions.get(name, (0, ""))[0]:
                versions[name] = rank, version
    known = {name: version for name, (_, version) in versions.items()}
    known |= {name: known[target] for name, target in links.items() if target in known}
    return sorted((name, version, "") for name, version in known.items())


def _newest(compressed: bytes) -> str:
    """The version that a Debian changelog begins with; empty if it is none."""
    with contextlib.suppress(zlib.error):
        found = ENTRY.match(zlib.decompressobj(GZIP).decompress(compressed).decode("utf-8", "replace"))
        return found[1] if found else ""
    return ""


def _members(archive: Iterable[bytes], limit: int) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """The members of an archive that streams in, each with so many bytes of its content."""
    blocks = iter(archive)
    first = next(blocks, b"")
    if not first:
        return
    with tarfile.open(fileobj=cast(IO[bytes], StreamReader(chain([first], blocks))), mode="r|") as opened:
        for member in opened:
            file = opened.extractfile(member) if member.isreg() else None
            yield member, file.read(limit) if file else b""


def _archive(client: DockerClient, container: str, path: str, limit: int) -> Iterator[bytes]:
    """A path of a container as a tar archive; nothing where there is none.

    Raises:
        MismatchError: It is larger than the limit.
    """
    from docker.errors import NotFound

    try:
        blocks, _ = client.api.get_archive(container, path)
    except NotFound:
        return
    size = 0
    for block in blocks:
        size += len(block)
        if size > limit:
            raise MismatchError(f"{path} of the base is larger than {limit} bytes")
        yield block
