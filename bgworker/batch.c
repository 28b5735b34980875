/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.c
 *	  Batches cut from a window and written as frames.
 *
 * Runs in the relay.  A cut lies between whole transactions and is an ordinary
 * snapshot; only a transaction larger than a batch is cut inside, at a position.
 * I7: what a batch leaves out is read from outbox.dead_letter.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/xid8.h"

#include "batch.h"
#include "event_columns.h"
#include "session.h"
#include "src/fault.h"
#include "src/guc.h"
#include "src/segment.h"

#define PIECE_BYTES			(4 * 1024 * 1024)	/* read in one transaction at most */
#define KEEP_BUFFER_BYTES	(8 * 1024 * 1024)	/* larger buffers are given back */
#define UNIX_EPOCH_US \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

typedef struct LeafReader
{
	Relation	leaves[OUTBOX_SEGMENTS];
	IndexFetchTableData *fetches[OUTBOX_SEGMENTS];	/* keeps the last block pinned */
	TupleTableSlot *slots[OUTBOX_SEGMENTS];
} LeafReader;

static void *
grow_frames(void *data, size_t capacity)
{
	if (data == NULL)
		return MemoryContextAllocHuge(TopMemoryContext, capacity);
	return repalloc_huge(data, capacity);
}

/* ------------------------------------------------------------ one event */

/* Hash of an id; its sum over a batch does not depend on the order. */
static uint64
hash_id(const uint8_t *id)
{
	uint64		high;
	uint64		low;

	memcpy(&high, id, 8);
	memcpy(&low, id + 8, 8);
	high ^= low * UINT64CONST(0x9E3779B97F4A7C15);
	high ^= high >> 33;
	high *= UINT64CONST(0xFF51AFD7ED558CCD);
	return high ^ (high >> 29);
}

static int
compare_exclusions(const void *a, const void *b)
{
	const OutboxExclusion *left = a;
	const OutboxExclusion *right = b;

	if (left->txid != right->txid)
		return left->txid < right->txid ? -1 : 1;
	return (left->seq > right->seq) - (left->seq < right->seq);
}

static bool
is_excluded(const OutboxChunk *chunk, const OutboxEntry *entry)
{
	OutboxExclusion key = {.txid = entry->txid, .seq = entry->seq};

	return chunk->nexcluded > 0 &&
		bsearch(&key, chunk->excluded, chunk->nexcluded, sizeof(key), compare_exclusions) != NULL;
}

static bool
fetch_row(LeafReader *reader, const OutboxWindow *window, const OutboxEntry *entry)
{
	int			segment = entry->segment;
	ItemPointerData tid;
	bool		call_again = false;

	if (reader->leaves[segment] == NULL)
	{
		reader->leaves[segment] = table_open(outbox_segment_relation(segment), AccessShareLock);
		reader->fetches[segment] = table_index_fetch_begin(reader->leaves[segment]);
		reader->slots[segment] = table_slot_create(reader->leaves[segment], NULL);
	}
	if (reader->leaves[segment]->rd_node.relNode != window->filenodes[segment])
		return false;
	ItemPointerSet(&tid, entry->block, entry->offset);
	if (!table_index_fetch_tuple(reader->fetches[segment], &tid, GetActiveSnapshot(),
								 reader->slots[segment], &call_again, NULL))
		return false;
	slot_getallattrs(reader->slots[segment]);
	return true;
}

static void
close_leaves(LeafReader *reader)
{
	for (int i = 0; i < OUTBOX_SEGMENTS; i++)
	{
		if (reader->leaves[i] == NULL)
			continue;
		ExecDropSingleTupleTableSlot(reader->slots[i]);
		table_index_fetch_end(reader->fetches[i]);
		table_close(reader->leaves[i], NoLock);
	}
}

static struct varlena *
get_bytes(TupleTableSlot *slot, int column, const uint8_t **data, uint32_t *len)
{
	struct varlena *value;

	*data = NULL;
	*len = 0;
	if (slot->tts_isnull[column - 1])
		return NULL;
	value = PG_DETOAST_DATUM_PACKED(slot->tts_values[column - 1]);
	*data = (const uint8_t *) VARDATA_ANY(value);
	*len = VARSIZE_ANY_EXHDR(value);
	return (Pointer) value != DatumGetPointer(slot->tts_values[column - 1]) ? value : NULL;
}

static void
get_text(TupleTableSlot *slot, int column, const char **data, uint16_t *len)
{
	const uint8_t *bytes;
	uint32_t	size;

	get_bytes(slot, column, &bytes, &size);
	*data = (const char *) bytes;
	*len = (uint16_t) size;
}

static void
put_event(OutboxChunk *chunk, TupleTableSlot *slot, bool excluded)
{
	static const uint8_t empty[1];
	OutboxWireEvent event;
	struct varlena *copies[3];

	event.id = (const uint8_t *) DatumGetUUIDP(slot->tts_values[OUTBOX_EVENT_ID - 1])->data;
	chunk->row.digest = (int64) ((uint64) chunk->row.digest + hash_id(event.id));
	chunk->row.events++;
	if (excluded)
		return;

	event.created_at = DatumGetTimestampTz(slot->tts_values[OUTBOX_EVENT_CREATED_AT - 1]) + UNIX_EPOCH_US;
	get_text(slot, OUTBOX_EVENT_TOPIC, &event.topic, &event.topic_len);
	get_text(slot, OUTBOX_EVENT_TYPE, &event.type, &event.type_len);
	get_text(slot, OUTBOX_EVENT_CONTENT_TYPE, &event.content_type, &event.content_type_len);
	copies[0] = get_bytes(slot, OUTBOX_EVENT_KEY, &event.key, &event.key_len);
	copies[1] = get_bytes(slot, OUTBOX_EVENT_PAYLOAD, &event.payload, &event.payload_len);
	copies[2] = get_bytes(slot, OUTBOX_EVENT_HEADERS, &event.headers, &event.headers_len);
	if (event.content_type == NULL)
		event.content_type = (const char *) empty;

	if (!outbox_wire_put_event(&chunk->frames, &event))
		elog(ERROR, "could not write an event frame");
	chunk->sent++;
	chunk->bytes += event.key_len + event.payload_len + event.headers_len;
	for (int i = 0; i < 3; i++)
	{
		if (copies[i] != NULL)
			pfree(copies[i]);
	}
}

/* --------------------------------------------------------------- chunks */

void
outbox_chunk_start(OutboxChunk *chunk, OutboxWindow *window, bool whole)
{
	MemoryContextReset(chunk->context);
	if (chunk->frames.capacity > KEEP_BUFFER_BYTES && !whole && window->count < 1000)
	{
		pfree(chunk->frames.data);
		chunk->frames.data = NULL;
		chunk->frames.capacity = 0;
	}
	memset(&chunk->row, 0, sizeof(chunk->row));
	outbox_cursor_copy_snapshot(chunk->context, &chunk->row.range.lower, &window->range.lower);
	chunk->row.range.lower_at = window->range.lower_at;
	chunk->frames.len = 0;
	chunk->frames.grow = grow_frames;
	chunk->first = chunk->end = chunk->read = chunk->boundary = window->next;
	chunk->sent = 0;
	chunk->bytes = 0;
	chunk->complete = false;
	chunk->nexcluded = 0;
	chunk->excluded = NULL;
}

static void
mark_boundary(OutboxChunk *chunk)
{
	chunk->boundary = chunk->read;
	chunk->boundary_len = chunk->frames.len;
	chunk->boundary_events = chunk->row.events;
	chunk->boundary_digest = chunk->row.digest;
	chunk->boundary_bytes = chunk->bytes;
	chunk->boundary_sent = chunk->sent;
}

static void
return_to_boundary(OutboxChunk *chunk)
{
	chunk->read = chunk->boundary;
	chunk->frames.len = chunk->boundary_len;
	chunk->row.events = chunk->boundary_events;
	chunk->row.digest = chunk->boundary_digest;
	chunk->bytes = chunk->boundary_bytes;
	chunk->sent = chunk->boundary_sent;
}

static void
cut_window(OutboxChunk *chunk, OutboxWindow *window)
{
	OutboxSnapshot *upper = &chunk->row.range.upper;
	uint32		room = window->range.upper.nxip + 1024;
	OutboxEntry last;

	for (;;)
	{
		upper->xip = MemoryContextAllocHuge(chunk->context, room * sizeof(uint64));
		if (outbox_cut(&window->range.lower, &window->range.upper, window->entries, window->count,
					   chunk->first, chunk->end, &upper->xmax, upper->xip, room, &upper->nxip))
			break;
		pfree(upper->xip);
		room = upper->nxip;
	}
	last = outbox_entry_at(window->entries, chunk->end - 1);
	if (last.txid == outbox_entry_at(window->entries, chunk->end).txid)
	{
		chunk->row.range.upper_at.txid = last.txid;
		chunk->row.range.upper_at.seq = last.seq;
	}
}

static void
complete_chunk(OutboxChunk *chunk, OutboxWindow *window)
{
	size_t		mark;

	chunk->end = chunk->read;
	window->next = chunk->end;
	if (chunk->end == window->count)
	{
		outbox_cursor_copy_snapshot(chunk->context, &chunk->row.range.upper, &window->range.upper);
		chunk->row.range.upper_at = window->range.upper_at;
	}
	else
		cut_window(chunk, window);

	/* the next chunk of this window begins where this one ends */
	outbox_cursor_copy_snapshot(window->context, &window->range.lower, &chunk->row.range.upper);
	window->range.lower_at = chunk->row.range.upper_at;

	if (!outbox_wire_begin(&chunk->frames, OUTBOX_FRAME_END, &mark) ||
		!outbox_wire_put_u32(&chunk->frames, (uint32) chunk->sent))
		elog(ERROR, "could not write the end of a batch");
	outbox_wire_finish(&chunk->frames, mark);
	chunk->complete = true;
}

static bool
is_full(const OutboxChunk *chunk)
{
	return chunk->row.events >= outbox_guc_batch_max_events ||
		chunk->frames.len >= (size_t) outbox_guc_batch_max_bytes * 1024;
}

/* Decides, before the next entry is read, whether the chunk ends here. */
static bool
ends_here(OutboxChunk *chunk, const OutboxWindow *window)
{
	OutboxEntryList *entries = window->entries;
	bool		between = chunk->read == window->count ||
	(chunk->read > chunk->first &&
	 outbox_entry_at(entries, chunk->read - 1).txid != outbox_entry_at(entries, chunk->read).txid);

	if (between)
	{
		mark_boundary(chunk);
		return chunk->read == window->count || is_full(chunk);
	}
	if (!is_full(chunk))
		return false;
	if (chunk->boundary > chunk->first)
		return_to_boundary(chunk);
	return true;
}

bool
outbox_chunk_read(OutboxChunk *chunk, OutboxWindow *window, int budget, bool whole)
{
	LeafReader	reader = {0};
	size_t		piece_end = chunk->frames.len + PIECE_BYTES;
	bool		intact = true;

	outbox_session_begin();
	while (budget-- > 0 && chunk->frames.len < piece_end)
	{
		OutboxEntry entry;

		if (whole ? chunk->read == window->count : ends_here(chunk, window))
		{
			complete_chunk(chunk, window);
			break;
		}
		entry = outbox_entry_at(window->entries, chunk->read);
		if (!fetch_row(&reader, window, &entry))
		{
			intact = false;
			break;
		}
		put_event(chunk, reader.slots[entry.segment], is_excluded(chunk, &entry));
		chunk->read++;
		OUTBOX_FAULT("relay-reading");
	}
	close_leaves(&reader);
	outbox_session_end();
	return intact;
}

/* ---------------------------------------------------- what is left out */

void
outbox_chunk_load_exclusions(OutboxChunk *chunk, int64 batch_no)
{
	Oid			types[] = {INT8OID};
	Datum		values[] = {Int64GetDatum(batch_no)};

	outbox_session_begin();
	if (SPI_execute_with_args("SELECT txid, seq FROM outbox.dead_letter WHERE origin = 'relay' AND batch_no = $1",
							  1, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read outbox.dead_letter");
	chunk->nexcluded = (int) SPI_processed;
	chunk->excluded = MemoryContextAlloc(chunk->context, sizeof(OutboxExclusion) * Max(SPI_processed, 1));
	for (int i = 0; i < chunk->nexcluded; i++)
	{
		HeapTuple	tuple = SPI_tuptable->vals[i];
		TupleDesc	desc = SPI_tuptable->tupdesc;
		bool		isnull;

		chunk->excluded[i].txid = U64FromFullTransactionId(DatumGetFullTransactionId(SPI_getbinval(tuple, desc, 1, &isnull)));
		chunk->excluded[i].seq = DatumGetInt64(SPI_getbinval(tuple, desc, 2, &isnull));
	}
	qsort(chunk->excluded, chunk->nexcluded, sizeof(OutboxExclusion), compare_exclusions);
	outbox_session_end();
}

/* Kafka errors that hold for every event of the topic. */
static bool
is_refused_topic(int32 kafka_error)
{
	return kafka_error == 3 /* UNKNOWN_TOPIC_OR_PART */ || kafka_error == 17 /* TOPIC_EXCEPTION */ ||
		kafka_error == 29 /* TOPIC_AUTHORIZATION_FAILED */ || kafka_error == -188 /* _UNKNOWN_TOPIC */ ;
}

static size_t
find_sent(const OutboxChunk *chunk, const OutboxWindow *window, uint32 index)
{
	for (size_t i = chunk->first; i < chunk->end; i++)
	{
		OutboxEntry entry = outbox_entry_at(window->entries, i);

		if (!is_excluded(chunk, &entry) && index-- == 0)
			return i;
	}
	elog(ERROR, "the sender refused an event that is not in batch " INT64_FORMAT, chunk->row.batch_no);
}

/* The refused event alone, or every event of the chunk that was sent, as arrays of txid and seq. */
static void
collect_candidates(const OutboxChunk *chunk, const OutboxWindow *window, size_t refused, bool all,
				   Datum *txids, Datum *seqs)
{
	size_t		room = all ? chunk->end - chunk->first : 1;
	Datum	   *txid_items = palloc(room * sizeof(Datum));
	Datum	   *seq_items = palloc(room * sizeof(Datum));
	int			count = 0;

	for (size_t i = all ? chunk->first : refused; i < (all ? chunk->end : refused + 1); i++)
	{
		OutboxEntry entry = outbox_entry_at(window->entries, i);

		if (is_excluded(chunk, &entry))
			continue;
		txid_items[count] = FullTransactionIdGetDatum(FullTransactionIdFromU64(entry.txid));
		seq_items[count++] = Int64GetDatum(entry.seq);
	}
	*txids = PointerGetDatum(construct_array(txid_items, count, XID8OID, 8, true, TYPALIGN_DOUBLE));
	*seqs = PointerGetDatum(construct_array(seq_items, count, INT8OID, 8, true, TYPALIGN_DOUBLE));
}

int
outbox_chunk_refuse(const OutboxChunk *chunk, const OutboxWindow *window, uint32 index,
					int32 kafka_error, const char *text)
{
	Oid			types[] = {XID8ARRAYOID, INT8ARRAYOID, INT8OID, TEXTOID, INT4OID, XID8OID, INT8OID};
	Datum		values[7];
	size_t		refused = find_sent(chunk, window, index);
	OutboxEntry entry = outbox_entry_at(window->entries, refused);
	int			letters;

	outbox_session_begin();
	collect_candidates(chunk, window, refused, is_refused_topic(kafka_error), &values[0], &values[1]);
	values[2] = Int64GetDatum(chunk->row.batch_no);
	values[3] = CStringGetTextDatum(text);
	values[4] = Int32GetDatum(kafka_error);
	values[5] = FullTransactionIdGetDatum(FullTransactionIdFromU64(entry.txid));
	values[6] = Int64GetDatum(entry.seq);
	if (SPI_execute_with_args("INSERT INTO outbox.dead_letter (origin, topic, key, value, headers, record_time, "
							  "event_id, event_type, error_class, error_message, state, txid, seq, batch_no) "
							  "SELECT 'relay', e.topic, e.key, e.payload, e.headers, e.created_at, e.id, e.type, "
							  "'refused', $4 || ' (Kafka error ' || $5 || ')', 'open', e.txid, e.seq, $3 "
							  "FROM unnest($1, $2) AS u(txid, seq) JOIN outbox.event e USING (txid, seq) "
							  "WHERE e.topic = (SELECT topic FROM outbox.event WHERE txid = $6 AND seq = $7) "
							  "ORDER BY e.seq",
							  7, types, values, NULL, false, 0) != SPI_OK_INSERT || SPI_processed == 0)
		elog(ERROR, "could not write the dead letter of a refused event");
	letters = (int) SPI_processed;
	outbox_session_end();
	return letters;
}
