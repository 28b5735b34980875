/* SPDX-License-Identifier: PostgreSQL
 *
 * window.h
 *	  The events between two snapshots, in order (I1).
 *
 * Process: the relay.  A window is the events of one range, ordered once.  It holds places of
 * rows, not rows.
 */
#ifndef OUTBOX_WINDOW_H
#define OUTBOX_WINDOW_H

#include "utils/palloc.h"

#include "snapshot.h"
#include "src/shmem.h"

typedef struct OutboxWindow
{
	MemoryContext	 context; /* owns all below; reset by the next window */
	OutboxRange		 range;
	OutboxEntryList *entries; /* in order; see entries.h */
	size_t			 count;
	size_t			 next;					   /* first entry that is in no chunk yet */
	Oid				 filenodes[OUTBOX_LEAVES]; /* of the leaves when they were read */
	bool			 commit_order;			   /* false: track_commit_timestamp is off */
	/* of a batch, by the rate seen; 0 = outbox.batch_max_bytes; outlives the window */
	int64			 most_bytes;
} OutboxWindow;

/* Transactions that emitted dead letters again; their events come first.  Sorted. */
typedef struct OutboxReissues
{
	const uint64 *txids;
	int			  count;
} OutboxReissues;

/*
 * Inside a transaction (outbox_session_begin).  Is anything visible now that `lower` does not see?
 * Opens the window on it.  `upper` NULL: the transaction's snapshot.
 */
extern bool outbox_window_open(OutboxWindow *window, const OutboxSnapshot *lower,
							   const OutboxPosition *lower_at, const OutboxSnapshot *upper,
							   OutboxReissues reissues);

/* Inside a transaction.  The window of a batch that is sent again. */
extern void outbox_window_reopen(OutboxWindow *window, const OutboxRange *range,
								 OutboxReissues reissues);

/* Forgets the window and what it holds in memory or on disk. */
extern void outbox_window_close(OutboxWindow *window);

/* Oldest transaction whose commit time can be asked for; none: UINT64_MAX. */
extern uint64 outbox_commit_times_from(void);

#endif /* OUTBOX_WINDOW_H */
