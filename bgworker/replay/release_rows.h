/* SPDX-License-Identifier: PostgreSQL
 *
 * release_rows.h
 *	  The rows of a release: its hold, and the transactions of its copies.
 *
 * Process: the relay, inside transactions of release.c.
 */
#ifndef OUTBOX_RELEASE_ROWS_H
#define OUTBOX_RELEASE_ROWS_H

#include "replay.h"
#include "src/common/topic_names.h"

#define OUTBOX_MOST_UNSENT_COPIES 64 /* transactions; more than a release lets wait */

/* A hold in state releasing, and what its copies say. */
typedef struct OutboxReleaseRow
{
	int64  hold; /* 0 = none */
	char   topic[OUTBOX_TOPIC_NAME_MAX + 1];
	bool   refused; /* its cause, or copies of it were refused */
	int64  steps;	/* transactions of copies since then, or at all; two are as good as more */
	uint64 newest;	/* of those that are not refused, 0 = none */
} OutboxReleaseRow;

/* A row of outbox.topic_hold_copy that is not refused. */
typedef struct OutboxCopiesRow
{
	uint64		   txid;
	int64		   last_batch;
	OutboxPosition last;
	int64		   copies;
	int64		   bytes;
} OutboxCopiesRow;

/* Transactions of copies that may be in no batch yet, oldest first. */
typedef struct OutboxCopiesList
{
	uint64 txids[OUTBOX_MOST_UNSENT_COPIES];
	int64  copies[OUTBOX_MOST_UNSENT_COPIES];
	int	   count;
} OutboxCopiesList;

/* Forgets those that are in a batch; copies of the others. */
extern int64 outbox_copies_unsent(OutboxCopiesList *list, const OutboxReplayTurn *turn);

/* A transaction that is newer than all in the list. */
extern void outbox_copies_add(OutboxCopiesList *list, const OutboxCopiesRow *row);

/* Is all of this transaction delivered?  0: yes. */
extern bool outbox_txid_delivered(uint64 txid, const OutboxReplayTurn *turn);

/* The hold that was released first and nobody has locked, `last` after the others; false: none. */
extern bool outbox_release_find(OutboxReleaseRow *row, int64 last);

/* What the copies of row's hold say. */
extern void outbox_release_read(OutboxReleaseRow *row, OutboxCopiesList *list);

/*
 * Locks the hold without waiting, and tells the newest of its copies; false: it is no longer
 * releasing, or somebody has it locked.
 */
extern bool outbox_release_lock(int64 hold, uint64 *newest);

/* Locks the topic against topic_hold() without waiting; false: somebody has it locked. */
extern bool outbox_release_lock_topic(const char *topic);

/* Fills in row's transaction, which is this one. */
extern void outbox_release_store(int64 hold, OutboxCopiesRow *row);

/* The hold has ended, with this transaction. */
extern void outbox_release_store_end(int64 hold);

/* Sets the bytes held of each topic in shared memory. */
extern void outbox_release_sum_held(OutboxSlot *slot);

/* A hold that has ended and has rows still; 0: none.  *ended: the transaction that ended it. */
extern int64 outbox_release_find_ended(uint64 *ended);

/* Deletes rows of a hold that has ended, at most so many of each table; false: none is left. */
extern bool outbox_release_delete(int64 hold, int most);

#endif /* OUTBOX_RELEASE_ROWS_H */
