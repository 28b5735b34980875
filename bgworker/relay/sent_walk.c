/* SPDX-License-Identifier: PostgreSQL
 *
 * sent_walk.c
 *	  The events of a chunk that were sent, one after the other.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "sent_walk.h"

OutboxSentWalk
outbox_sent_walk_begin(const OutboxChunk *chunk, const OutboxWindow *window)
{
	return (OutboxSentWalk) {.chunk = chunk, .window = window, .entry = chunk->first};
}

bool
outbox_sent_walk_next(OutboxSentWalk *walk, OutboxEntry *entry, OutboxWireEvent *event)
{
	const OutboxChunk *chunk = walk->chunk;
	OutboxFrameType	   type;
	OutboxWireReader   body;
	size_t			   size;
	bool			   corrupt;

	while (walk->entry < chunk->end && outbox_chunk_left_out(chunk, walk->entry))
		walk->entry++;
	if (walk->entry == chunk->end)
		return false;
	*entry = outbox_entry_at(walk->window->entries, walk->entry);
	if (!outbox_wire_frame(chunk->frames.data + walk->frame, chunk->frames.len - walk->frame, &type,
						   &body, &size, &corrupt) ||
		type != OUTBOX_FRAME_EVENT || !outbox_wire_get_event(&body, event))
		elog(ERROR, "batch " INT64_FORMAT " does not hold the events of its window",
			 chunk->row.batch_no);
	walk->frame += size;
	walk->index++;
	walk->entry++;
	return true;
}
