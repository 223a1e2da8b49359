"""The software bill of materials of an image: CycloneDX JSON of the locked wheels and the base's Debian packages."""

from __future__ import annotations

import uuid
import zipfile
from collections.abc import Mapping
from datetime import UTC, datetime
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qk_bench.errors import UsageError
from qk_containers.lock import file_digest
from qk_containers.records import MismatchError

if TYPE_CHECKING:
    from cyclonedx.model.component import Component

LICENCE_CLASSIFIER: Final = "License :: OSI Approved :: "


def wheel_metadata(wheel: Path) -> dict[str, str]:
    """Name, version, summary and licence of a wheel, as it states them.

    Raises:
        MismatchError: It holds no metadata.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1)
            fields = HeaderParser().parsestr(archive.read(name).decode("utf-8", "replace"))
    except (OSError, zipfile.BadZipFile, ValueError):
        raise MismatchError(f"{wheel} is no wheel", "delete it and build again") from None
    classified = [
        c.removeprefix(LICENCE_CLASSIFIER) for c in fields.get_all("Classifier", []) if c.startswith(LICENCE_CLASSIFIER)
    ]
    stated = (fields.get("License") or "").strip()
    short = stated if "\n" not in stated and len(stated) <= 64 and stated != "UNKNOWN" else ""
    return {
        "name": fields["Name"],
        "version": fields["Version"],
        "summary": fields.get("Summary") or "",
        "expression": fields.get("License-Expression") or "",
        "licence": short or " AND ".join(classified),
    }


def bill_of_materials(title: str, seal: str, wheels: Mapping[str, Path], packages: list[tuple[str, str, str]]) -> str:
    """CycloneDX 1.6 JSON; the same image gives the same text.

    Args:
        title: Name of the image.
        seal: What it is made of: base and lock; its serial number is derived from that.
        wheels: The locked wheels, by name.
        packages: The Debian packages; see `debian.debian_packages`.
    """
    try:
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
    except ImportError:
        raise UsageError("cyclonedx-python-lib is not installed", "pip install 'qk-bench[container]'") from None
    bom = Bom(serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{title} {seal}"))
    bom.metadata.timestamp = datetime.fromtimestamp(0, UTC)
    root = Component(name=title, type=ComponentType.CONTAINER, bom_ref=title)
    bom.metadata.component = root
    parts = [_wheel(path) for _, path in sorted(wheels.items())] + [_package(*package) for package in packages]
    for part in parts:
        bom.components.add(part)
        bom.register_dependency(part)
    bom.register_dependency(root, parts)
    return JsonV1Dot6(bom).output_as_string(indent=1) + "\n"


def _wheel(path: Path) -> Component:
    from cyclonedx.contrib.license.factories import LicenseFactory
    from cyclonedx.model import HashAlgorithm, HashType
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    stated = wheel_metadata(path)
    licence = stated["expression"] or stated["licence"]
    digest = file_digest(path).removeprefix("sha256:")
    return Component(
        name=stated["name"],
        version=stated["version"],
        description=stated["summary"] or None,
        type=ComponentType.LIBRARY,
        bom_ref=f"{stated['name']}=={stated['version']}",
        purl=PackageURL("pypi", name=stated["name"].lower(), version=stated["version"]),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        licenses=[LicenseFactory().make_from_string(licence)] if licence else None,
    )


def _package(name: str, version: str, architecture: str) -> Component:
    from cyclonedx.model.component import Component, ComponentType
    from packageurl import PackageURL

    return Component(
        name=name,
        version=version,
        type=ComponentType.LIBRARY,
        bom_ref=f"deb:{name}:{architecture}={version}" if architecture else f"deb:{name}={version}",
        purl=PackageURL("deb", "debian", name, version, {"arch": architecture} if architecture else {}),
    )
