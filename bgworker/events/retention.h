/* SPDX-License-Identifier: PostgreSQL
 *
 * retention.h
 *	  Moves the event ring and the batch log on and empties their old leaves.
 *
 * Process: the relay, between batches, outside a transaction.  Events leave only when every one of
 * their leaf is delivered (I1), as itself or as a topic hold's copy, and older than
 * outbox.retention; the leaf with the newest batch row is never emptied.
 */
#ifndef OUTBOX_RETENTION_H
#define OUTBOX_RETENTION_H

#include "src/shmem.h"

#include "snapshot.h"

/*
 * Looks, at most every few seconds and only if something was delivered since or an event's time has
 * come, and does what is due in transactions of its own.  delivered: the lower snapshot of the
 * newest batch, whose own events stay for a start without a cursor; an event of a transaction it
 * does not see is kept.  Not to be called before it is known.
 */
extern void outbox_retention_step(OutboxSlot *slot, const OutboxSnapshot *delivered);

/*
 * Leaf of outbox.batch for the next row.  The first time inside a transaction
 * begun with outbox_session_begin, later anywhere.
 */
extern int outbox_retention_batch_leaf(void);

#endif /* OUTBOX_RETENTION_H */
