/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.h
 *	  Records polled together as one database transaction.
 */
#ifndef OUTBOX_BATCH_H
#define OUTBOX_BATCH_H

#include "member.h"
#include "services/lib/array_text.h"

/*
 * Runs items as one database transaction.  The first *done of them are committed: on
 * OUTBOX_FAILURE_NONE all, or none when some are marked `again`.  Else none, or those before the
 * one at fault; member->db.error says why and *culprit is the index of the item at fault, -1 when
 * none is.  *fenced: another member has moved a watermark.
 */
extern OutboxDbFailure outbox_batch_run(OutboxMember *member, OutboxItem **items, int count,
										int *culprit, int *done, bool *fenced);

/*
 * Adds the event id that the record may have been known by; returns false (NULL is added) when it
 * never had another one.
 */
extern bool outbox_batch_add_old_id(OutboxArrayText *array, const OutboxRecord *record);

/* Runs the item's call alone and rolls it back; member->db.error. */
extern OutboxDbFailure outbox_batch_prove(OutboxMember *member, OutboxItem *item);

#endif /* OUTBOX_BATCH_H */
