/* SPDX-License-Identifier: PostgreSQL
 *
 * chunk_holds.c
 *	  What holds leave out of a chunk, counted while it is read.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "utils/memutils.h"

#include "chunk_holds.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/measure.h"
#include "src/backlog.h"

void
outbox_chunk_holds_start(OutboxChunkHolds *holds, MemoryContext context)
{
	const OutboxHolds *known = holds->known;

	*holds = (OutboxChunkHolds) {.known = known, .context = context, .count = known->count};
	if (known->count == 0)
		return;
	holds->shares = MemoryContextAllocZero(context, sizeof(OutboxHoldShare) * known->count);
	for (int i = 0; i < known->count; i++)
	{
		holds->shares[i].hold = known->holds[i].id;
		holds->shares[i].noted = known->holds[i].noted;
	}
}

/* The events of a transaction come one after the other. */
static void
note_refused(OutboxChunkHolds *holds, uint64 txid)
{
	if (holds->nrefused > 0 && holds->refused[holds->nrefused - 1] == txid)
		return;
	if (holds->nrefused == holds->refused_room)
	{
		holds->refused_room = Max(16, 2 * holds->refused_room);
		holds->refused = holds->refused == NULL ?
			MemoryContextAlloc(holds->context, holds->refused_room * sizeof(uint64)) :
			repalloc_huge(holds->refused, holds->refused_room * sizeof(uint64));
	}
	holds->refused[holds->nrefused++] = txid;
}

bool
outbox_chunk_holds_refuse(OutboxChunkHolds *holds, uint64 txid)
{
	if (!outbox_holds_refused(holds->known, txid))
		return false;
	note_refused(holds, txid);
	holds->refused_events++;
	return true;
}

void
outbox_hold_share_add(OutboxHoldShare *share, TupleTableSlot *slot)
{
	int			column = slot->tts_isnull[OUTBOX_EVENT_COPIED_AT - 1] ? OUTBOX_EVENT_CREATED_AT :
																		OUTBOX_EVENT_COPIED_AT;
	TimestampTz at = DatumGetTimestampTz(slot->tts_values[column - 1]);

	if (share->events == 0 || at < share->oldest_at)
		share->oldest_at = at;
	share->events++;
	share->bytes += outbox_measure_event(slot);
}

bool
outbox_chunk_holds_leave_out(OutboxChunkHolds *holds, TupleTableSlot *slot, uint64 txid)
{
	const OutboxHold *hold;
	const uint8_t	 *topic;
	uint32_t		  len;
	struct varlena	 *copy;

	if (holds->count == 0)
		return false;
	copy = outbox_leaf_reader_bytes(slot, OUTBOX_EVENT_TOPIC, &topic, &len);
	hold =
		outbox_hold_leaving_out(holds->known->holds, holds->count, (const char *) topic, len, txid);
	if (copy != NULL)
		pfree(copy);
	if (hold == NULL)
		return false;
	outbox_hold_share_add(&holds->shares[hold - holds->known->holds], slot);
	return true;
}

bool
outbox_chunk_holds_keep_whole(const OutboxChunkHolds *holds, uint64 txid)
{
	for (int i = 0; i < holds->count; i++)
	{
		if (outbox_hold_owns(&holds->known->holds[i], txid))
			return true;
	}
	return outbox_holds_refused(holds->known, txid);
}

void
outbox_chunk_holds_mark_boundary(OutboxChunkHolds *holds)
{
	for (int i = 0; i < holds->count; i++)
	{
		holds->shares[i].boundary_events = holds->shares[i].events;
		holds->shares[i].boundary_bytes = holds->shares[i].bytes;
	}
	holds->boundary_nrefused = holds->nrefused;
	holds->boundary_refused_events = holds->refused_events;
}

void
outbox_chunk_holds_return(OutboxChunkHolds *holds)
{
	for (int i = 0; i < holds->count; i++)
	{
		holds->shares[i].events = holds->shares[i].boundary_events;
		holds->shares[i].bytes = holds->shares[i].boundary_bytes;
	}
	holds->nrefused = holds->boundary_nrefused;
	holds->refused_events = holds->boundary_refused_events;
}

void
outbox_chunk_holds_count(const OutboxChunkHolds *holds, OutboxSlot *slot)
{
	for (int i = 0; i < holds->count; i++)
	{
		const char *topic = holds->known->holds[i].topic;

		if (!holds->shares[i].noted && holds->shares[i].bytes > 0)
			outbox_backlog_hold(slot, topic, strlen(topic), holds->shares[i].bytes);
	}
}

int32
outbox_chunk_holds_events(const OutboxChunkHolds *holds)
{
	int32 events = holds->refused_events;

	for (int i = 0; i < holds->count; i++)
		events += holds->shares[i].events;
	return events;
}
