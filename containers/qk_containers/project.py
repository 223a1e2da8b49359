"""The project's own wheel: made from the checkout this package runs from, or named."""

from __future__ import annotations

import hashlib
import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Final

import qk_bench
from qk_bench.errors import UsageError, folded
from qk_bench.run.environment import git

MAX_BYTES: Final = 1_000_000_000


def checkout() -> Path | None:
    """The root of the checkout this package runs from; none if it is installed."""
    root = Path(qk_bench.__file__).parent.parent
    return root if (root / "pyproject.toml").is_file() and (root / "containers" / "qk_containers").is_dir() else None


def revision() -> str:
    """Git revision of the checkout, with `-dirty` if it was changed; empty if there is none."""
    state = git()
    return f"{state['revision']}{'-dirty' if state['dirty'] else ''}" if state.get("revision") else ""


def project_wheel(folder: Path) -> Path:
    """Make the wheel of the checkout. The same files give the same wheel.

    Args:
        folder: Where it is written.

    Raises:
        UsageError: There is no checkout, or it cannot be packed.
    """
    root = checkout()
    if root is None:
        raise UsageError("this qk-bench does not run from a checkout", "name its wheel with --wheel")
    if importlib.util.find_spec("hatchling") is None:
        raise UsageError("hatchling, which packs the checkout, is not installed", "pip install 'qk-bench[container]'")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UsageError(f"{root} cannot be packed: {folded(done.stderr[-200:])}", "mend the checkout, or use --wheel")
    (wheel,) = folder.glob("*.whl")
    return wheel


def wheel_files(wheel: Path) -> dict[str, str]:
    """The sha256 of each file in a wheel.

    Raises:
        UsageError: It is no wheel, or too large.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            files = [info for info in archive.infolist() if not info.is_dir()]
            if sum(info.file_size for info in files) > MAX_BYTES:
                raise UsageError(f"--wheel {wheel} is larger than {MAX_BYTES} bytes", "it is not that of this project")
            return {info.filename: hashlib.sha256(archive.read(info)).hexdigest() for info in files}
    except (OSError, zipfile.BadZipFile):
        raise UsageError(f"--wheel {wheel} is no wheel", "name a .whl file") from None
