# SPDX-License-Identifier: PostgreSQL
"""Compares what a read_committed consumer could read with what it has done: each record's effect once."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Effect(NamedTuple):
    """What a consumer did for an event; effects are in the order of their places."""

    id: str
    place: int


_FAULTS = {
    "lost": "records without an effect",
    "doubled": "effects of an event that had one",
    "phantom": "effects of what nobody could read",
    "reordered": "effects after that of a later record of the partition",
}


@dataclass
class EffectReport:
    """What check_effects() found; empty lists mean each record's effect once and in order.

    unread: records (Seen) of deleted logs that were destroyed before the consumer came to them; no fault."""

    effects: int = 0
    lost: list = field(default_factory=list)
    doubled: list = field(default_factory=list)
    phantom: list = field(default_factory=list)
    reordered: list = field(default_factory=list)
    unread: tuple = ()

    @property
    def ok(self):
        return not any(getattr(self, fault) for fault in _FAULTS)

    def summary(self):
        """One line: name=count for everything."""
        counts = [f"{fault}={len(getattr(self, fault))}" for fault in _FAULTS]
        return " ".join([*counts, f"unread={len(self.unread)}", f"effects={self.effects}"])

    def text(self, examples=5):
        """The summary, then some examples of each fault."""
        found = [(meaning, getattr(self, fault)[:examples]) for fault, meaning in _FAULTS.items()]
        lines = [f"{meaning}: {item}" for meaning, items in found for item in items]
        return "\n".join([self.summary(), *lines])


def check_effects(seen, destroyed, effects):
    """Compare records with effects (iterable of Effect). Returns an EffectReport.

    seen       records (Seen) that are there: each must have its effect
    destroyed  those of deleted logs with a marker of their commit: a partition was read up to some record, so one
               without an effect is unread when none that follows it has one, else lost
    """
    report, done, unread = EffectReport(), {}, []
    for effect in sorted(effects, key=lambda e: e.place):
        report.effects += 1
        if effect.id in done:
            report.doubled.append(effect)
        else:
            done[effect.id] = effect.place
    for _, records in _by_partition(destroyed):
        places = [done.get(record.id) for record in records]
        read = max((at for at, place in enumerate(places, 1) if place is not None), default=0)
        unread += records[read:]
        _judge(records[:read], places, report)
    for _, records in _by_partition(seen):
        _judge(records, [done.get(record.id) for record in records], report)
    readable = {record.id for record in seen} | {record.id for record in destroyed}
    report.phantom = [Effect(event, place) for event, place in done.items() if event not in readable]
    report.unread = tuple(unread)
    return report


def _by_partition(records):
    """(place, records by offset) of each partition of each log."""
    found = {}
    for record in sorted(records, key=lambda r: r.offset):
        found.setdefault((record.topic, record.log, record.partition), []).append(record)
    return sorted(found.items())


def _judge(records, places, report):
    """Fill lost and reordered from records that must have effects; places are theirs or None."""
    newest = None
    for record, place in zip(records, places):
        if place is None:
            report.lost.append(record)
        elif newest is not None and place < newest:
            report.reordered.append(record)
        else:
            newest = place
