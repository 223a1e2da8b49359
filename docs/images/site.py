"""Takes the pictures of the site's pages: `python docs/images/site.py SITE` (a folder that `qkbench site` wrote).

In a window of 1280 x 800 pixels, light; the leaderboard and the gallery are taken dark and at phone width too, and
both together for the README (`result.png`).
"""

from __future__ import annotations

import base64
import io
import re
import sys
import time
from pathlib import Path
from typing import Any

from PIL import Image

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))


def main() -> None:
    """Take them all."""
    from tests.leaderboard.browser import open_browser

    site = Path(sys.argv[1]).resolve()
    pages = {
        "leaderboard": "index.html",
        "pairs": "pairs.html",
        "pair": first(site / "pairs"),
        "gallery": "gallery.html#diff=1",
        "sample": f"gallery.html#sample={some_sample(site)}",
        "model": first(site / "models"),
        "task": first(site / "tasks"),
        "compute": "compute.html",
        "claims": "claims.html",
        "versions": "versions.html",
        "provenance": "provenance.html",
        "downloads": "downloads.html",
    }
    for dark, width, names in (
        (False, 1280, tuple(pages)),
        (True, 1280, ("leaderboard", "gallery")),
        (False, 390, ("leaderboard", "gallery")),
    ):
        with open_browser(dark=dark, width=width, height=800) as page:
            for name in names:
                if not (site / pages[name].partition("#")[0]).exists():
                    continue
                suffix = "-dark" if dark else "-phone" if width < 500 else ""
                shot(page, f"{site.as_uri()}/{pages[name]}").save(HERE / f"site-{name}{suffix}.png", optimize=True)
    with open_browser(dark=False, width=1280, height=900) as page:
        leaderboard = shot(page, f"{site.as_uri()}/index.html").crop((0, 0, 1280, 600))
        gallery = shot(page, f"{site.as_uri()}/gallery.html").crop((0, 61, 1280, 757))  # less its bar
    both = Image.new("RGB", (1280, leaderboard.height + gallery.height))
    both.paste(leaderboard)
    both.paste(gallery, (0, leaderboard.height))
    both.save(HERE / "result.png", optimize=True)


def shot(page: Any, address: str) -> Image.Image:
    """What a window shows of an address."""
    page.get("about:blank")
    page.get(address)
    time.sleep(1)
    data = page.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def first(folder: Path) -> str:
    """The last page of a folder that is not its index, relative to the site."""
    pages = sorted(path for path in folder.rglob("*.html") if path.name != "index.html")
    return str(pages[-1].relative_to(folder.parent))


def some_sample(site: Path) -> str:
    """A sample in the middle of the gallery."""
    index = next(site.glob("data/*/index.js")).read_text()
    ids = re.search(r'"ids":\[([^\]]*)\]', index)
    assert ids is not None
    names = ids[1].replace('"', "").split(",")
    return names[len(names) // 2]


if __name__ == "__main__":
    main()
