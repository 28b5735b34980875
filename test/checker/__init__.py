# SPDX-License-Identifier: PostgreSQL
"""Compares what was committed with what a read_committed consumer saw, and that with what a consumer did."""

from .check import Report, Seen, Truth, check
from .effects import Effect, EffectReport, check_effects
from .load import Load, LoadResult
from .observe import check_database, read_topics, read_truth

__all__ = [
    "Effect",
    "EffectReport",
    "Load",
    "LoadResult",
    "Report",
    "Seen",
    "Truth",
    "check",
    "check_database",
    "check_effects",
    "read_topics",
    "read_truth",
]
