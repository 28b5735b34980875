/* SPDX-License-Identifier: PostgreSQL
 *
 * refusal.h
 *	  Writes what a batch leaves out to outbox.dead_letter (I7).
 *
 * Process: the relay.
 */
#ifndef OUTBOX_REFUSAL_H
#define OUTBOX_REFUSAL_H

#include "batch.h"

/* What REFUSED says of one event. */
typedef struct OutboxRefusedEvent
{
	uint32		index; /* among those that were sent */
	int32		kafka_error;
	bool		whole_topic; /* so are all of the chunk's events of its topic */
	const char *text;
} OutboxRefusedEvent;

/*
 * Own transaction, flushed.  Makes the events dead letters (I7), which are given in the chunk's
 * order, but of topics that are refused as a whole with policy hold_topic.  With it and hold_key
 * later events of a refused one's key become held rows.  The relay's letters must be read anew.
 * Returns the number of open letters.
 */
extern int outbox_refusal_store(OutboxChunk *chunk, const OutboxWindow *window,
								const OutboxRefusedEvent *refused, uint32 count);

/* Inside a transaction: the rows of chunk->held. */
extern void outbox_refusal_store_held(const OutboxChunk *chunk, const OutboxWindow *window);

/* The topic of the event that was sent as `index`, in the current context. */
extern char *outbox_refusal_topic(const OutboxChunk *chunk, const OutboxWindow *window,
								  uint32 index);

/* The event that was sent as `index`, for a message: id, topic, key; in the current context. */
extern char *outbox_refusal_describe(const OutboxChunk *chunk, const OutboxWindow *window,
									 uint32 index);

#endif /* OUTBOX_REFUSAL_H */
