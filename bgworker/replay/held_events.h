/* SPDX-License-Identifier: PostgreSQL
 *
 * held_events.h
 *	  What a topic hold left out of the batches and has not copied yet, in order.
 *
 * Process: the relay, inside transactions of release.c.  The batches in their order, and of each
 * the events of the topic in the order that the batch had; one batch's at a time, so memory is
 * bounded by a batch.
 */
#ifndef OUTBOX_HELD_EVENTS_H
#define OUTBOX_HELD_EVENTS_H

#include "utils/hsearch.h"

#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/window.h"

/* Of an event of the range, for those that are left out for another reason. */
typedef struct OutboxHeldLetter
{
	uint64 txid;
	int64  seq;
} OutboxHeldLetter;

typedef struct OutboxHeldEvents
{
	MemoryContext context; /* of the hold; owns topic and ids */
	MemoryContext scratch; /* of what opens a range */
	int64		  hold;	   /* 0 = none */
	char		 *topic;
	int64		  batch_no;	   /* the range that is open or was last, 0 = none */
	int64		  events;	   /* of it, as its row says */
	int64		  bytes;	   /* the same */
	int64		  found;	   /* of them, copied ones too */
	bool		  open;		   /* the range has not been read to its end */
	OutboxWindow  window;	   /* of the range */
	HTAB		 *copied;	   /* ids of the first range that are copied; NULL: none */
	HTAB  *letters_of_copies;  /* ids that are dead letters since they were copied; NULL: none */
	int64  ncopied;			   /* their number */
	uint64 own_txid;		   /* last transaction that was asked for, and ... */
	bool   own;				   /* ... are its events copies of this hold? */
	OutboxHeldLetter *letters; /* sorted; in the window's context */
	int				  nletters;
} OutboxHeldEvents;

/* Once, zeroed. */
extern void outbox_held_events_make(OutboxHeldEvents *held);

/*
 * Begins behind what the hold's copies say: opens nothing yet.  Also after an error, or when
 * somebody else has changed the copies.
 */
extern void outbox_held_events_start(OutboxHeldEvents *held, int64 hold, const char *topic);

/* Forgets the hold. */
extern void outbox_held_events_stop(OutboxHeldEvents *held);

/*
 * How many events are left, and their bytes, counted up to the end of the next MOST_COUNTED ranges.
 */
extern void outbox_held_events_left(const OutboxHeldEvents *held, int64 *events, int64 *bytes);

/* Events and bytes of the next range; false: there is none.  The one before is read to its end. */
extern bool outbox_held_events_peek(OutboxHeldEvents *held, int64 *events, int64 *bytes);

/* Opens the range that was peeked at. */
extern void outbox_held_events_open(OutboxHeldEvents *held);

/*
 * The next event of the open range, all columns read, and its place; NULL: the range is at its end,
 * or `most` entries were looked at (*most is counted down), or *stale: a leaf was emptied or
 * rewritten, start again.
 */
extern TupleTableSlot *outbox_held_events_next(OutboxHeldEvents *held, OutboxLeafReader *reader,
											   OutboxPosition *at, int *most, bool *stale);

#endif /* OUTBOX_HELD_EVENTS_H */
