"""Where the published statements about Query-Kontext are: the entry point that `qkbench claims` finds."""

from __future__ import annotations

from pathlib import Path

CLAIMS = Path(__file__).with_name("claims.yaml")
