"""The scenes suite: coloured shapes on backgrounds, edits of them in words, and exact answers at any resolution."""

from qk_tasks.scenes.suite import SUITE

__all__ = ["SUITE"]
