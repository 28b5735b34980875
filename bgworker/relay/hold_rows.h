/* SPDX-License-Identifier: PostgreSQL
 *
 * hold_rows.h
 *	  Writes what holds say: their beginning, what batches leave out for them, and copies that
 *	  come back (I7).
 *
 * Process: the relay.  Every function is inside a transaction of the caller (outbox_session_begin),
 * who sets OutboxHolds.loaded to false when it is over.
 */
#ifndef OUTBOX_HOLD_ROWS_H
#define OUTBOX_HOLD_ROWS_H

#include "batch.h"

/* A topic that is to be held from a batch on; texts of the database's encoding. */
typedef struct OutboxHoldWanted
{
	const char	   *topic;
	OutboxHoldCause cause;
	int				partition; /* -1 = none is named */
	const char	   *reason;
} OutboxHoldWanted;

/* What became of its events in the batch. */
typedef struct OutboxHoldTaken
{
	OutboxHoldShare share;		  /* left out of it from now on */
	int32			copies;		  /* of the hold itself: refused, and copied again later */
	int64			copied_bytes; /* of these and of later ones that are in no batch yet */
	uint64		   *txids;		  /* of these, in the current context; sorted */
	int				ntxids;
} OutboxHoldTaken;

/*
 * Locks a topic against persons until the transaction ends, without waiting; false: somebody has
 * it locked, try again later.  Before anything else here that begins or changes a hold.
 */
extern bool outbox_hold_lock(const char *topic);

/* The id of the topic's hold that is not ended, which begins here if there is none. */
extern int64 outbox_hold_begin(const OutboxHoldWanted *wanted);

/*
 * The topic's events in the chunk, which was sent and is to be sent again: they are left out of its
 * batch.  Begins a hold, or adds to the one there is; of one whose copies are in the chunk these
 * are refused, and it is held again.  The caller commits and replicates this before the batch is
 * sent (row_end).
 */
extern void outbox_hold_chunk_topic(const OutboxChunk *chunk, const OutboxWindow *window,
									const OutboxHoldWanted *wanted, OutboxHoldTaken *taken);

/*
 * The hold is held again, for this cause unless a person holds it meanwhile.  The copies of these
 * transactions are left out of batch_no, those of later ones of the batch they come in.  Returns
 * the bytes of all of them.
 */
extern int64 outbox_hold_put_back(int64 hold, const OutboxHoldWanted *wanted, const uint64 *txids,
								  int count, int64 batch_no);

/* A hold for want of a leader is releasing from now on, unless somebody has made it his own. */
extern void outbox_hold_release(int64 hold);

/* What holds left out of the chunk, with its row. */
extern void outbox_hold_store_chunk(const OutboxChunk *chunk);

/*
 * The same of an old batch, as far as the tables do not say it yet: false, they say all.  It is
 * committed and replicated before the batch is sent.
 */
extern bool outbox_hold_store_old(const OutboxChunk *chunk);

/*
 * The batches from `oldest` on come again (adopt): what they left out does so with them, so its
 * copies do not.
 */
extern void outbox_hold_forget_batches(int64 oldest);

#endif /* OUTBOX_HOLD_ROWS_H */
