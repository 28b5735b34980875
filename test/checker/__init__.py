# SPDX-License-Identifier: PostgreSQL
"""Compares what was committed with what a read_committed consumer saw."""

from .check import Report, Seen, Truth, check
from .load import Load, LoadResult
from .observe import check_database, read_topics, read_truth

__all__ = [
    "Load",
    "LoadResult",
    "Report",
    "Seen",
    "Truth",
    "check",
    "check_database",
    "read_topics",
    "read_truth",
]
