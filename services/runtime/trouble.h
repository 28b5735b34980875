/* SPDX-License-Identifier: PostgreSQL
 *
 * trouble.h
 *	  Records that fail for themselves alone with what is waited for.
 */
#ifndef OUTBOX_TROUBLE_H
#define OUTBOX_TROUBLE_H

#include "member.h"

/* Reads what is known of the partition's record in trouble.  false: member->db.error. */
extern bool outbox_trouble_take(OutboxMember *member, OutboxPartition *partition);

/*
 * The transaction of the items has failed with OUTBOX_FAILURE_INFRASTRUCTURE (member->db.error;
 * culprit as of outbox_batch_run): the item that is to be tried alone, which is noted in its
 * partition.  NULL: the database's, or not known which; then each one is run alone.
 */
extern OutboxItem *outbox_trouble_find(OutboxMember *member, OutboxItem **items, int count,
									   int culprit);

/* Milliseconds until the partition's record in trouble is tried again. */
extern int64_t outbox_trouble_wait(OutboxMember *member, const OutboxPartition *partition);

/* Is it its partition's record in trouble? */
extern bool outbox_trouble_is(const OutboxItem *item);

/*
 * Before it is run, alone: a new session, and the try is noted; condemns it when it has failed
 * often and long enough while the database has worked.  false: member->db.error.
 */
extern bool outbox_trouble_note(OutboxMember *member, OutboxItem *item);

/* The record is done: it, or one before it, may be its partition's in trouble. */
extern void outbox_trouble_done(OutboxMember *member, const OutboxRecord *record);

#endif /* OUTBOX_TROUBLE_H */
