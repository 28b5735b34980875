/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.h
 *	  Batches cut from a window.
 *
 * Process: the relay.  A chunk is the part of a window that becomes one batch.
 */
#ifndef OUTBOX_BATCH_H
#define OUTBOX_BATCH_H

#include "cursor.h"
#include "letters.h"
#include "bgworker/events/window.h"
#include "src/common/wire.h"
#include "src/shmem.h"

/* What a TimestampTz is behind a time of the wire. */
#define OUTBOX_UNIX_EPOCH_US ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* An event that waits behind a dead letter of its key. */
typedef struct OutboxHeldEntry
{
	size_t entry;
	int64  blocked_by;
} OutboxHeldEntry;

typedef struct OutboxChunk
{
	MemoryContext		 context; /* owns row's snapshots */
	const OutboxLetters *letters; /* the relay's; set once */
	OutboxBatchRow		 row;	  /* batch_no set by the relay */
	OutboxWireBuffer	 frames;  /* BATCH is not in it: EVENT... END */
	size_t				 first;	  /* entries [first, end) of the window */
	size_t				 end;
	size_t				 read;		   /* next entry to read */
	size_t				 boundary;	   /* last end of a transaction, as entry ... */
	size_t				 boundary_len; /* ... and as length of frames */
	int32				 boundary_events;
	int64				 boundary_digest;
	int64				 boundary_bytes;
	int32				 sent; /* EVENT frames, exclusions left out */
	int32				 boundary_sent;
	int64				 bytes; /* of all its events, sent or not, as src/backlog.h counts */
	bool				 complete;
	OutboxHeldEntry		*held; /* become rows together with the batch row */
	int					 nheld;
	int					 held_room;
	int					 boundary_held;
} OutboxChunk;

/* Starts a chunk at the window's next entry; whole: the rest of the window whatever its size. */
extern void outbox_chunk_start(OutboxChunk *chunk, OutboxWindow *window, bool whole);

/*
 * Own transaction.  Reads up to `budget` events into the chunk; sets
 * chunk->complete when it has its end and its row.  false: the leaves were
 * rewritten meanwhile, the window must be opened again.
 */
extern bool outbox_chunk_read(OutboxChunk *chunk, OutboxWindow *window, int budget, bool whole);

/* What REFUSED says of one event. */
typedef struct OutboxRefusedEvent
{
	uint32		index; /* among those that were sent */
	int32		kafka_error;
	bool		whole_topic; /* so are all of the chunk's events of its topic */
	const char *text;
} OutboxRefusedEvent;

/*
 * refusal.c.  Own transaction, flushed.  Makes the events dead letters (I7), which are given in the
 * chunk's order.  With policy hold_key later events of a refused one's key become held rows.  The
 * window's letters must be read anew.  Returns the number of open letters.
 */
extern int outbox_chunk_refuse(OutboxChunk *chunk, const OutboxWindow *window,
							   const OutboxRefusedEvent *refused, uint32 count);

/* refusal.c.  Inside a transaction: the rows of chunk->held. */
extern void outbox_chunk_store_held(const OutboxChunk *chunk, const OutboxWindow *window);

/* refusal.c.  The topic of the event that was sent as `index`. */
extern char *outbox_chunk_topic(const OutboxChunk *chunk, const OutboxWindow *window, uint32 index);

/* refusal.c.  The event that was sent as `index`, for a message: id, topic, key. */
extern char *outbox_chunk_describe(const OutboxChunk *chunk, const OutboxWindow *window,
								   uint32 index);

#endif /* OUTBOX_BATCH_H */
