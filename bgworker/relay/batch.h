/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.h
 *	  Batches cut from a window.
 *
 * Process: the relay.  A chunk is the part of a window that becomes one batch.
 */
#ifndef OUTBOX_BATCH_H
#define OUTBOX_BATCH_H

#include "batch_log.h"
#include "chunk_holds.h"
#include "letters.h"
#include "bgworker/events/window.h"
#include "src/common/wire.h"

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
	OutboxChunkHolds	 holds;
	OutboxBatchRow		 row;	 /* batch_no set by the relay */
	OutboxWireBuffer	 frames; /* BATCH is not in it: EVENT... END */
	size_t				 first;	 /* entries [first, end) of the window */
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
	uint8				*left_out; /* a bit of each entry from first on: it is not sent */
	size_t				 left_out_room;
} OutboxChunk;

/* Starts a chunk at the window's next entry; whole: the rest of the window whatever its size. */
extern void outbox_chunk_start(OutboxChunk *chunk, OutboxWindow *window, bool whole);

/*
 * Own transaction.  Reads up to `budget` events into the chunk; sets
 * chunk->complete when it has its end and its row.  false: the leaves were
 * rewritten meanwhile, the window must be opened again.
 */
extern bool outbox_chunk_read(OutboxChunk *chunk, OutboxWindow *window, int budget, bool whole);

/* Is this entry of the chunk, one that was read, left out of the batch? */
static inline bool
outbox_chunk_left_out(const OutboxChunk *chunk, size_t entry)
{
	size_t bit = entry - chunk->first;

	return (chunk->left_out[bit / 8] >> (bit % 8)) & 1;
}

#endif /* OUTBOX_BATCH_H */
