# SPDX-License-Identifier: PostgreSQL
"""The comparison itself: no database, no broker."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Truth(NamedTuple):
    """One committed event: its id, topic and key, and its rank among the events of (topic, key)."""

    id: str
    topic: str
    key: str
    key_seq: int


class Seen(NamedTuple):
    """One record as consumed, and where it lay; a topic that was deleted and made anew begins its next log."""

    id: str
    topic: str
    key: str
    key_seq: int
    partition: int
    offset: int
    log: int = 0


_FAULTS = {
    "lost": "committed but never delivered",
    "doubled": "delivered more often than once",
    "phantom": "delivered but not committed",
    "reordered": "delivered after a later event of its key",
    "moved": "keys delivered on more than one partition",
    "altered": "delivered with another topic, key or rank than committed",
}


@dataclass
class Report:
    """What check() found; empty lists mean exactly once and in order."""

    committed: int = 0
    delivered: int = 0
    lost: list = field(default_factory=list)
    doubled: list = field(default_factory=list)
    phantom: list = field(default_factory=list)
    reordered: list = field(default_factory=list)
    moved: list = field(default_factory=list)
    altered: list = field(default_factory=list)
    destroyed: set = field(default_factory=set)  # ids of events delivered to logs that are no more; no fault

    @property
    def ok(self):
        return not any(getattr(self, fault) for fault in _FAULTS)

    def summary(self):
        """One line: name=count for everything."""
        counts = [f"{fault}={len(getattr(self, fault))}" for fault in _FAULTS]
        return f"committed={self.committed} delivered={self.delivered} " + " ".join(counts) + (
            f" destroyed={len(self.destroyed)}" if self.destroyed else "")

    def text(self, examples=5):
        """The summary, then some examples of each fault."""
        lines = [self.summary()]
        for fault, meaning in _FAULTS.items():
            found = getattr(self, fault)
            if found:
                lines.append(f"{fault} ({meaning}):")
                lines += [f"  {item}" for item in found[:examples]]
                if len(found) > examples:
                    lines.append(f"  and {len(found) - examples} more")
        return "\n".join(lines)

    def require_ok(self):
        """Raise AssertionError with the text unless everything was right. Returns the report."""
        if not self.ok:
            raise AssertionError(self.text())
        return self


def check(truth, seen, destroyed=()):
    """Compare truth (iterable of Truth) with seen (iterable of Seen, all of the topics). Returns a Report.

    destroyed: records (Seen) proven to have been delivered to logs that were deleted since. They are deliveries like
    any other, so that what is seen besides is doubled, and what precedes them in its key must not follow.
    Repeats of an event count as doubled only; order is judged on each event's
    first delivery, along the offsets of its partition, and from one log of its topic to the next.
    """
    expected = {row.id: row for row in truth}
    report = Report(committed=len(expected), destroyed={record.id for record in destroyed})
    first = {}
    for record in sorted([*destroyed, *seen], key=lambda r: (r.topic, r.log, r.partition, r.offset)):
        report.delivered += 1
        row = expected.get(record.id)
        if row is None:
            report.phantom.append(record)
        elif record.id in first:
            report.doubled.append(record)
        else:
            first[record.id] = record
            if (row.topic, row.key, row.key_seq) != (record.topic, record.key, record.key_seq):
                report.altered.append((row, record))
    report.lost = [row for row in expected.values() if row.id not in first]
    judge_order(first.values(), report)
    return report


def judge_order(records, report):
    """Fill reordered and moved; records are first deliveries, by topic, log, partition and offset."""
    last, partitions = {}, {}
    for record in records:
        entity = (record.topic, record.key)
        partitions.setdefault((entity, record.log), set()).add(record.partition)
        before = last.get(entity)
        follows = before is not None and (before.partition == record.partition or before.log != record.log)
        if follows and before.key_seq >= record.key_seq:
            report.reordered.append(record)
        else:
            last[entity] = record
    report.moved = [(entity, sorted(found)) for (entity, _), found in partitions.items() if len(found) > 1]
