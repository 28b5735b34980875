# SPDX-License-Identifier: PostgreSQL
"""What deleted topics held, and what of it is proven to have been delivered.

Only what was read from the files of a deleted log can be destroyed. A record there is proven delivered when the
marker of its commit follows it. One whose transaction had no marker yet when its partition vanished is proven
when Kafka committed the event's batch for the very producer that wrote the record: the relay sends a batch again
with a producer of a higher epoch only (I6; a batch sent again because an event was refused is sent by the
same one, but the refused event is then lost to the checker). Whatever is not proven must be delivered.
"""

import struct
from collections import Counter
from typing import NamedTuple

from .check import Seen
from .log_files import COMMITTED, PENDING, Producer, read_partition
from .observe import decode

_BATCHES = """
select e.id::text, b.batch_no
from outbox.event e join outbox.batch b
    on (pg_visible_in_snapshot(e.txid, b.upper) or coalesce(e.txid = b.upper_txid and e.seq <= b.upper_seq, false))
    and not (pg_visible_in_snapshot(e.txid, b.lower) or coalesce(e.txid = b.lower_txid and e.seq <= b.lower_seq, false))
where e.id = any(%s::uuid[])
"""


class Buried(NamedTuple):
    """A record of a deleted log. batch: its event's, where that is needed and known."""

    record: Seen
    fate: str
    producer: Producer
    batch: int = None


def read_remains(directories, log):
    """Every record of a deleted topic, log being the number of its log. Returns a list of Buried."""
    return [
        Buried(decode(found.topic, found.partition, stored.offset, stored.key, stored.value, stored.headers)
               ._replace(log=log), stored.fate, stored.producer)
        for found in directories for stored in read_partition(found.path, found.partition)
    ]


def note_batches(remains, database):
    """remains with the batch of each event whose transaction had no marker, as far as the tables tell it."""
    undecided = [row.record.id for row in remains if row.fate == PENDING]
    batches = dict(database.execute(_BATCHES, (undecided,))) if undecided else {}
    return [row._replace(batch=batches.get(row.record.id)) if row.fate == PENDING else row for row in remains]


def read_commits(directories, group):
    """{batch: Producer} as Kafka has committed them for the relay of that consumer group (I4)."""
    commits = {}
    for directory in directories:
        for stored in read_partition(directory.path, directory.partition):
            if stored.fate == COMMITTED and stored.value is not None and _names(stored.key, group):
                (batch,) = struct.unpack_from(">q", stored.value, 2)  # after the version
                commits[batch] = stored.producer
    return commits


def _names(key, group):
    """Is it the key of an offset (OffsetCommitKey, version 1) of the group?"""
    name = group.encode()
    return key.startswith((1).to_bytes(2, "big") + len(name).to_bytes(2, "big") + name)


def is_proven(buried, commits):
    """Was the record delivered before its log was deleted?"""
    if buried.fate == PENDING:
        return buried.batch is not None and commits.get(buried.batch) == buried.producer
    return buried.fate == COMMITTED


def proven(remains, commits):
    """The records that were delivered and destroyed. Returns a list of Seen."""
    return [row.record for row in remains if is_proven(row, commits)]


def count_destroyed(records):
    """{(topic, log): number} of what proven returned."""
    return dict(sorted(Counter((record.topic, record.log) for record in records).items()))
