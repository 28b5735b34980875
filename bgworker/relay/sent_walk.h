/* SPDX-License-Identifier: PostgreSQL
 *
 * sent_walk.h
 *	  The events of a chunk that were sent, one after the other.
 *
 * Process: the relay.
 */
#ifndef OUTBOX_SENT_WALK_H
#define OUTBOX_SENT_WALK_H

#include "batch.h"

/* Walks the entries of a chunk and, beside them, the frames of those that were sent. */
typedef struct OutboxSentWalk
{
	const OutboxChunk  *chunk;
	const OutboxWindow *window;
	size_t				entry; /* next one */
	size_t				frame; /* offset of its frame, if it was sent */
	uint32				index; /* of the next one that was sent */
} OutboxSentWalk;

extern OutboxSentWalk outbox_sent_walk_begin(const OutboxChunk *chunk, const OutboxWindow *window);

/* The next event that was sent and its entry; false at the end. */
extern bool outbox_sent_walk_next(OutboxSentWalk *walk, OutboxEntry *entry, OutboxWireEvent *event);

#endif /* OUTBOX_SENT_WALK_H */
