"""The hash of a root file system, as a container sees it: what is the same each time the same image is built.

Image IDs and layer digests hold times and so differ between builds of the same content. The tree hash covers, for
every path, type, mode, owner, link target, capabilities and content, and leaves times out. The project's own package is left out too
and compared with its wheel instead, because a hash of it cannot be recorded inside it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final, cast

from qk_bench.errors import UsageError
from qk_containers.engine import SESSION_LABEL, EngineError, translated

if TYPE_CHECKING:
    from docker import DockerClient

PROJECT: Final = "opt/qk-bench"
"""Where the project's own package is in an image."""
ENGINES_OWN: Final = frozenset(
    (
        "etc/hosts",
        "etc/hostname",
        "etc/resolv.conf",
        "etc/mtab",
        ".dockerenv",
        "run/.containerenv",
        "dev",
        "proc",
        "sys",
    )
)
"""What engines put into every container, each its own way."""
MARK: Final = 16
"""Hex digits of a content's hash in a listing that is stored: enough to find what differs."""
CAPABILITY: Final = "SCHILY.xattr.security.capability"
"""Under which name engines export the one extended attribute that they all keep."""
MODE: Final = 0o7777
"""Some engines write the type into the mode too."""
BLOCK: Final = 1 << 20
MAX_LISTING: Final = 100_000_000
KINDS: Final = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.LNKTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}


@dataclass(frozen=True)
class Tree:
    """A root file system: for each path, what it is and the sha256 of its content (or its link's target)."""

    entries: Mapping[str, tuple[str, str]]
    project: Mapping[str, str]
    """Content of the project's own files, by path below its folder."""
    size: int
    """Bytes of all files."""

    def digest(self) -> str:
        """The tree hash, as `sha256:…`."""
        h = hashlib.sha256()
        for path, (what, content) in sorted(self.entries.items()):
            h.update(f"{path}\0{what}\0{content}\n".encode("utf-8", "surrogateescape"))
        return f"sha256:{h.hexdigest()}"

    def listing(self) -> dict[str, str]:
        """One short line a path, to be stored and compared."""
        return {
            path: f"{what} {content[:MARK]}{''.join(content.partition('+')[1:])}"
            for path, (what, content) in self.entries.items()
        }


def read_tree(blocks: Iterable[bytes]) -> Tree:
    """Hash an exported container, while it streams in.

    Args:
        blocks: The bytes of a tar archive.
    """
    entries: dict[str, tuple[str, str]] = {}
    project: dict[str, str] = {}
    size = 0
    with tarfile.open(fileobj=cast(IO[bytes], StreamReader(blocks)), mode="r|", bufsize=BLOCK) as archive:
        for member in archive:
            path = member.name.removeprefix("./").strip("/")
            if not path or path in ENGINES_OWN or path.partition("/")[0] in ENGINES_OWN:
                continue
            kind = KINDS.get(member.type, "other")
            content = ""
            if member.isreg():
                file = archive.extractfile(member)
                assert file is not None
                content = hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest()
                size += member.size
            elif member.islnk():  # the same file under a second name: engines differ in which of them comes first
                original = member.linkname.removeprefix("./").strip("/")
                content = _content(original, entries, project)
            elif member.issym():
                content = hashlib.sha256(member.linkname.encode("utf-8", "surrogateescape")).hexdigest()
            elif kind == "device":
                content = f"{member.devmajor}:{member.devminor}"
            if path == PROJECT or path.startswith(f"{PROJECT}/"):
                if kind != "folder":
                    project[path.removeprefix(f"{PROJECT}/")] = content if kind == "file" else f"a {kind}"
                continue
            entries[path] = (f"{kind} {member.mode & MODE:o} {member.uid}:{member.gid}", content + _rights(member))
    return Tree(entries, project, size)


def _rights(member: tarfile.TarInfo) -> str:
    """The capabilities that running a file gives, as `setcap` writes them; empty for almost every file."""
    found = member.pax_headers.get(CAPABILITY)
    return f"+{found.encode('utf-8', 'surrogateescape').hex()}" if found else ""


def _content(path: str, entries: Mapping[str, tuple[str, str]], project: Mapping[str, str]) -> str:
    if path in entries:
        return entries[path][1]
    return project.get(path.removeprefix(f"{PROJECT}/"), "")


class StreamReader:
    """The file that `tarfile` reads a stream of blocks from."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks: Iterator[bytes] = iter(blocks)
        self._left = b""

    def read(self, size: int) -> bytes:
        parts, wanted = [], size
        while wanted:
            if not self._left:
                self._left = next(self._blocks, b"")
                if not self._left:
                    break
            parts.append(self._left[:wanted])
            self._left = self._left[wanted:]
            wanted -= len(parts[-1])
        return b"".join(parts)


def tree_of(client: DockerClient, image: str, session: str, platform: str | None = None) -> Tree:
    """The tree of an image. A container is made for it, never started, and removed.

    Raises:
        EngineError: The engine could not export it.
    """
    with translated(f"exporting {image}"):
        made = client.api.create_container(image, command=["-"], labels={SESSION_LABEL: session}, platform=platform)
        try:
            return read_tree(client.api.export(made["Id"], chunk_size=BLOCK))
        except tarfile.TarError as error:
            raise EngineError(f"the engine's export of {image} cannot be read: {error}") from None
        finally:
            client.api.remove_container(made["Id"], force=True, v=True)


def differences(expected: Mapping[str, str], found: Mapping[str, str]) -> list[str]:
    """What differs between two listings, one line a path."""
    lines = []
    for path in sorted(expected.keys() | found.keys()):
        if path not in found:
            lines.append(f"{path}: is missing")
        elif path not in expected:
            lines.append(f"{path}: should not be there")
        elif expected[path] != found[path]:
            lines.append(f"{path}: {_what_differs(expected[path], found[path])}")
    return lines


def _what_differs(expected: str, found: str) -> str:
    before, after = expected.split(" "), found.split(" ")
    names = ("type", "mode", "owner", "content")
    differing = [name for name, one, other in zip(names, before, after, strict=False) if one != other]
    if differing in (["mode"], ["owner"], ["type"]):
        place = names.index(differing[0])
        return f"{differing[0]} is {after[place]}, not {before[place]}"
    return f"{' and '.join(differing) or 'content'} {'differ' if len(differing) > 1 else 'differs'}"


def listing_path(recipe: Path, tree: str) -> Path:
    """Where the listing behind a tree hash is stored."""
    return recipe / "trees" / f"{tree.removeprefix('sha256:')[:12]}.txt.gz"


def write_listing(path: Path, listing: Mapping[str, str]) -> None:
    """Store a listing; the same listing gives the same bytes."""
    text = "".join(f"{line}\t{name}\n" for name, line in sorted(listing.items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    temporary.write_bytes(gzip.compress(text.encode("utf-8", "surrogateescape"), mtime=0))
    temporary.replace(path)


def read_listing(path: Path) -> dict[str, str] | None:
    """A stored listing; none if there is none.

    Raises:
        UsageError: It is damaged or too large.
    """
    try:
        with gzip.open(path) as file:
            data = _limited(file, path)
        rows = (line.split("\t", 1) for line in data.decode("utf-8", "surrogateescape").split("\n") if line)
        return {name: what for what, name in rows}
    except FileNotFoundError:
        return None
    except (OSError, EOFError, ValueError):
        raise UsageError(f"{path} is damaged", "take it from the repository again") from None


def _limited(file: gzip.GzipFile, path: Path) -> bytes:
    data = file.read(MAX_LISTING + 1)
    if len(data) > MAX_LISTING:
        raise UsageError(f"{path} is larger than {MAX_LISTING} bytes", "it is no listing of this project")
    return data
