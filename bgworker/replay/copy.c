/* SPDX-License-Identifier: PostgreSQL
 *
 * copy.c
 *	  Events written into the ring again, with the same id.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "storage/lmgr.h"
#include "utils/memutils.h"
#include "utils/uuid.h"

#include "copy.h"
#include "bgworker/events/event_columns.h"
#include "src/event_store.h"
#include "src/leaf.h"

static Datum
get_column(TupleTableSlot *slot, int column)
{
	return slot->tts_values[column - 1];
}

static struct varlena *
get_varlena(TupleTableSlot *slot, int column)
{
	return slot->tts_isnull[column - 1] ? NULL : PG_DETOAST_DATUM_PACKED(get_column(slot, column));
}

/* The event's own headers, then the others. */
static bytea *
make_headers(const OutboxCopyChanges *changes, bytea *own)
{
	OutboxHeaderReader reader;
	size_t			   own_size = 0;
	size_t			   size;
	bytea			  *made;
	uint8_t			  *end;

	if (changes->header_count == 0)
		return own;
	outbox_headers_read(&reader, own != NULL ? (const uint8_t *) VARDATA_ANY(own) : NULL,
						own != NULL ? VARSIZE_ANY_EXHDR(own) : 0);
	if (reader.bad)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the headers of an event are not in Kafka's encoding")));
	if (own != NULL)
		own_size = reader.end - reader.pos;
	size = outbox_varint_size(reader.left + changes->header_count) + own_size;
	for (int i = 0; i < changes->header_count; i++)
		size += outbox_header_size(&changes->headers[i]);
	made = palloc(VARHDRSZ + size);
	SET_VARSIZE(made, VARHDRSZ + size);
	end = outbox_varint_put((uint8_t *) VARDATA(made), reader.left + changes->header_count);
	if (own_size > 0)
		memcpy(end, reader.pos, own_size);
	end += own_size;
	for (int i = 0; i < changes->header_count; i++)
		end = outbox_header_put(end, &changes->headers[i]);
	return made;
}

bool
outbox_copy_begin(OutboxCopier *copier, const OutboxCopyChanges *changes)
{
	/* in the order of event_store.c */
	if (!ConditionalLockRelationOid(outbox_leaf_ring(), RowExclusiveLock) ||
		!ConditionalLockRelationOid(outbox_leaf_relation(outbox_leaf_current()), RowExclusiveLock))
		return false;
	copier->changes = changes;
	copier->writer = NULL;
	copier->context =
		AllocSetContextCreate(CurrentMemoryContext, "outbox copy", ALLOCSET_DEFAULT_SIZES);
	copier->now = GetCurrentTimestamp();
	return true;
}

/* The event as it is stored anew, in the current context. */
static void
describe_copy(const OutboxCopyChanges *changes, TupleTableSlot *slot, OutboxEvent *event)
{
	*event = (OutboxEvent) {
		.topic = changes->target_topic != NULL ? changes->target_topic :
												 get_varlena(slot, OUTBOX_EVENT_TOPIC),
		.key = get_varlena(slot, OUTBOX_EVENT_KEY),
		.type = get_varlena(slot, OUTBOX_EVENT_TYPE),
		.payload = get_varlena(slot, OUTBOX_EVENT_PAYLOAD),
		.content_type = get_varlena(slot, OUTBOX_EVENT_CONTENT_TYPE),
		.headers = make_headers(changes, get_varlena(slot, OUTBOX_EVENT_HEADERS)),
	};
	if (changes->target_topic != NULL)
		outbox_emit_check_topic(event); /* its own topic has taken it */
}

int64
outbox_copy_event(OutboxCopier *copier, TupleTableSlot *slot)
{
	MemoryContext outside;
	OutboxEvent	  event;
	int64		  bytes;

	if (copier->writer == NULL)
		copier->writer = outbox_event_store_open();
	outside = MemoryContextSwitchTo(copier->context);
	describe_copy(copier->changes, slot, &event);
	bytes = outbox_event_size(&event);
	outbox_event_store_put(copier->writer, &event, DatumGetUUIDP(get_column(slot, OUTBOX_EVENT_ID)),
						   DatumGetTimestampTz(get_column(slot, OUTBOX_EVENT_CREATED_AT)),
						   copier->now);
	MemoryContextSwitchTo(outside);
	MemoryContextReset(copier->context);
	return bytes;
}

void
outbox_copy_end(OutboxCopier *copier)
{
	if (copier->writer != NULL)
		outbox_event_store_close(copier->writer);
	MemoryContextDelete(copier->context);
}
