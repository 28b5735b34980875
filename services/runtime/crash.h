/* SPDX-License-Identifier: PostgreSQL
 *
 * crash.h
 *	  Records that end the process.
 */
#ifndef OUTBOX_CRASH_H
#define OUTBOX_CRASH_H

#include "member.h"

/* Notes that this member works on the partition.  false: member->db.error. */
extern bool outbox_crash_take(OutboxMember *member, OutboxPartition *partition);

/*
 * Before the item, its partition's next to be run alone or one before the watermark, is decoded;
 * condemns it when the process has ended crash_max times with it in hand.  false: member->db.error.
 */
extern bool outbox_crash_note(OutboxMember *member, OutboxItem *item);

/* Is the record, of a partition whose handlers call out, to be run alone? */
extern bool outbox_crash_is_suspect(const OutboxPartition *partition, int64_t offset);

/* The process has survived its call, or it needs none; the same of what is done before next. */
extern void outbox_crash_acquit(OutboxPartition *partition, int64_t offset);

/* The error of a record the process has not survived so often. */
extern void outbox_crash_error(OutboxError *error, int crashes);

/* Takes the notes of partitions back that are no longer owned; at the end (closing) of all. */
extern void outbox_crash_leave(OutboxMember *member, bool closing);

/*
 * After a turn: what was to be run alone is done where the log's end was reached, or lies before
 * next.
 */
extern void outbox_crash_end_alone(OutboxMember *member);

/* How many records may be in hand at once. */
extern int outbox_crash_limit(OutboxMember *member);

#endif /* OUTBOX_CRASH_H */
