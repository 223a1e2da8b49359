"""Published benchmarks, read from the user's folder in the layouts they are published in."""

from __future__ import annotations
