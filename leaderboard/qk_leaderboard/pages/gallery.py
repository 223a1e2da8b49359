"""The gallery pages, one per board."""

from __future__ import annotations

from qk_leaderboard import scales
from qk_leaderboard.difference import LABELS
from qk_leaderboard.site import Site


def write(site: Site) -> None:
    """Write `gallery.html`, and one more for each further board."""
    links = [{"title": board.title, "href": site.gallery_href(board)} for board in site.boards]
    for board in site.boards:
        gallery = site.galleries[board.id]
        site.render(
            "gallery.html",
            site.gallery_href(board),
            title="Gallery",
            board=board,
            count=scales.count(gallery.count),
            gallery=gallery,
            galleries=links,
            labels=list(LABELS.values()),
            models=[site.model(board, name) for name in board.models],
            examples=[sample for samples in gallery.examples.values() for sample in samples],
        )
