"""Metrics that a judge decides: a model that looks at pictures, behind an OpenAI-compatible endpoint."""

from __future__ import annotations
