/* SPDX-License-Identifier: PostgreSQL
 *
 * chunk_holds.h
 *	  What holds leave out of a chunk, counted while it is read.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_CHUNK_HOLDS_H
#define OUTBOX_CHUNK_HOLDS_H

#include "executor/tuptable.h"

#include "holds.h"

/* What one hold leaves out. */
typedef struct OutboxHoldShare
{
	int64		hold;
	bool		noted; /* of an old batch: outbox.topic_hold_batch says so already */
	int32		events;
	int64		bytes;			 /* as src/backlog.h counts */
	TimestampTz oldest_at;		 /* of the oldest, or of one behind the boundary */
	int32		boundary_events; /* at the chunk's boundary */
	int64		boundary_bytes;
} OutboxHoldShare;

typedef struct OutboxChunkHolds
{
	const OutboxHolds *known; /* the relay's; set once */
	MemoryContext	   context;
	OutboxHoldShare	  *shares; /* one of each of known's */
	int				   count;
	uint64			  *refused; /* transactions of copies that are left out */
	int				   nrefused;
	int				   refused_room;
	int				   boundary_nrefused;
	int32			   refused_events;
	int32			   boundary_refused_events;
} OutboxChunkHolds;

/* Adds an event, whose columns are read, to the share. */
extern void outbox_hold_share_add(OutboxHoldShare *share, TupleTableSlot *slot);

/* For a chunk that begins; context: the chunk's, which was reset.  known stays until its end. */
extern void outbox_chunk_holds_start(OutboxChunkHolds *holds, MemoryContext context);

/* Is the event a copy that was refused?  Counts it. */
extern bool outbox_chunk_holds_refuse(OutboxChunkHolds *holds, uint64 txid);

/* Does a hold leave the event in slot out?  Counts it. */
extern bool outbox_chunk_holds_leave_out(OutboxChunkHolds *holds, TupleTableSlot *slot,
										 uint64 txid);

/* The copies of a transaction go in one batch, so that all of them or none are refused. */
extern bool outbox_chunk_holds_keep_whole(const OutboxChunkHolds *holds, uint64 txid);

extern void outbox_chunk_holds_mark_boundary(OutboxChunkHolds *holds);
extern void outbox_chunk_holds_return(OutboxChunkHolds *holds);

/*
 * What is left out is committed: its bytes are held of the topics from now on, but for what the
 * tables said before.
 */
extern void outbox_chunk_holds_count(const OutboxChunkHolds *holds, OutboxSlot *slot);

/* Events that are left out of the chunk for holds, refused copies too. */
extern int32 outbox_chunk_holds_events(const OutboxChunkHolds *holds);

#endif /* OUTBOX_CHUNK_HOLDS_H */
