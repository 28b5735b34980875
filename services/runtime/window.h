/* SPDX-License-Identifier: PostgreSQL
 *
 * window.h
 *	  The records of a member whose handlers call out: read, called for, answered, done.
 *
 * A record is done when its transaction is committed, whatever those before it of other keys do; it
 * stays in the window until all before it of its partition are.  A partition's records stand in the
 * order of their offsets.  Pure: no database, no Kafka.  Belongs to the member's thread, but an
 * entry whose call is under way to that call's.
 */
#ifndef OUTBOX_WINDOW_H
#define OUTBOX_WINDOW_H

#include <stdbool.h>
#include <stdint.h>

#include "anchor.h"
#include "call_pool.h"
#include "consumer.h"
#include "item.h"

typedef enum OutboxEntryState
{
	OUTBOX_ENTRY_READ,	   /* waits for its key, or for room */
	OUTBOX_ENTRY_CALLING,  /* its call is under way */
	OUTBOX_ENTRY_WAITING,  /* what it calls is away: called for again at call_at */
	OUTBOX_ENTRY_ANSWERED, /* ready for its transaction */
	OUTBOX_ENTRY_DONE,	   /* committed; the record is freed, the anchor is left */
} OutboxEntryState;

typedef struct OutboxEntry
{
	OutboxCallJob	 job; /* first */
	OutboxItem		 item;
	OutboxEntryState state;
	OutboxPartition *partition;
	unsigned		 reading; /* the partition's when it was read */
	OutboxAnchor	 anchor;  /* of the record */
	bool			 keyed;	  /* it has a key, and is not stepped over */
	uint64_t		 key_hash;
	uint64_t		 id_hash;  /* of what is claimed */
	char			*told;	   /* malloc'ed; what ask answered, NULL: nothing */
	int64_t			 call_at;  /* WAITING: outbox_clock_ms */
	unsigned		 waits;	   /* in a row, for the back-off */
	bool			 alone;	   /* its call, or the next one, is to be the only one */
	bool			 dropped;  /* CALLING: nobody waits for the answer */
	bool			 in_batch; /* in the transaction under way */
} OutboxEntry;

typedef struct OutboxWindow
{
	OutboxEntry **entries; /* malloc'ed, in the order they were read */
	int			  count;
	int			  room; /* of entries */
} OutboxWindow;

/* How many there are. */
typedef struct OutboxWindowCounts
{
	int unfinished; /* not done */
	int under_way;	/* called for, and not done */
	int calling;	/* of these, calls that have not ended */
} OutboxWindowCounts;

/* Where a partition stands when what is done or in the batch is committed. */
typedef struct OutboxWindowEnd
{
	bool		 moved;	  /* records from its first on are done: up to `last` */
	OutboxAnchor last;	  /* moved: of the record before `next` */
	int64_t		 next;	  /* the watermark belongs here */
	int64_t		 done_to; /* behind the last record of the batch; -1: it is not above next */
} OutboxWindowEnd;

/*
 * Puts a copy of the record at the end, READ.  NULL: the partition's records up to there are done,
 * or it is in the window.
 */
extern OutboxEntry *outbox_window_add(OutboxWindow *window, const OutboxRecord *record);

/*
 * Takes out what is done before its partition's next, and what counts no more: of partitions given
 * up, or read anew from elsewhere.  A call under way is marked as dropped; its entry is freed by
 * who takes its answer.  outbox_window_count is to follow.
 */
extern void outbox_window_sweep(OutboxWindow *window);

/* The entry has its record done. */
extern void outbox_window_done(OutboxEntry *entry);

extern void outbox_window_end(const OutboxWindow *window, const OutboxPartition *partition,
							  OutboxWindowEnd *end);

/* Also fills unfinished, in_window and waiting of the entries' partitions. */
extern void outbox_window_count(OutboxWindow *window, OutboxWindowCounts *counts);

/*
 * The entries to be judged and called for now, `most` at most in `found`: of active partitions, not
 * behind one of their key or event that is not done; `fresh` of them may be called for the first
 * time.  Returns their number.
 */
extern int outbox_window_candidates(const OutboxWindow *window, int64_t now, int fresh, int most,
									OutboxEntry **found);

/* Entries of active partitions that are ready for a transaction, at most `most`. */
extern int outbox_window_ready(const OutboxWindow *window, int most, OutboxEntry **found);

/* Is the partition's record at the offset in the window, and not done? */
extern bool outbox_window_waits(const OutboxWindow *window, const OutboxPartition *partition,
								int64_t offset);

/* The entry of an item in the window. */
extern OutboxEntry *outbox_window_entry(OutboxItem *item);

/* Frees the record as well. */
extern void outbox_entry_free(OutboxEntry *entry);
extern void outbox_window_free(OutboxWindow *window);

#endif /* OUTBOX_WINDOW_H */
