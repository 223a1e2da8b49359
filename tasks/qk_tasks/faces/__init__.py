"""Faces: the drawn-faces suite, and the CelebA-HQ holdout from the user's folder."""

from __future__ import annotations

from qk_tasks.faces.suite import SUITE

__all__ = ["SUITE"]
