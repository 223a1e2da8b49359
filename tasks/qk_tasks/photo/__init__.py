"""The photo suite: edits on photographs, with exact answers."""

from qk_tasks.photo.suite import SUITE

__all__ = ["SUITE"]
