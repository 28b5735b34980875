/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.c
 *	  Batches cut from a window and written as frames.
 *
 * Runs in the relay.  A cut lies between whole transactions and is an ordinary
 * snapshot; only a transaction larger than a batch is cut inside, at a position.
 * I7: what a batch leaves out is a row of outbox.dead_letter, or a hold's, before it is sent.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "batch.h"
#include "bgworker/events/event_columns.h"
#include "bgworker/events/leaf_reader.h"
#include "bgworker/events/measure.h"
#include "bgworker/events/take_snapshot.h"
#include "bgworker/session.h"
#include "src/encoding.h"
#include "src/fault.h"
#include "src/guc.h"

#define PIECE_BYTES		  (4 * 1024 * 1024) /* read in one transaction at most */
#define KEEP_BUFFER_BYTES (8 * 1024 * 1024) /* larger buffers are given back */

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
	uint64 high;
	uint64 low;

	memcpy(&high, id, 8);
	memcpy(&low, id + 8, 8);
	high ^= low * UINT64CONST(0x9E3779B97F4A7C15);
	high ^= high >> 33;
	high *= UINT64CONST(0xFF51AFD7ED558CCD);
	return high ^ (high >> 29);
}

/* False: it is longer than a frame can say, and was cut. */
static bool
get_text(TupleTableSlot *slot, int column, const char **data, uint16_t *len)
{
	const uint8_t *bytes;
	uint32_t	   size;

	outbox_leaf_reader_bytes(slot, column, &bytes, &size);
	*data = bytes == NULL ? "" : (const char *) bytes;
	*len = (uint16_t) Min(size, UINT16_MAX);
	return size <= UINT16_MAX;
}

/*
 * The same of a text that becomes UTF-8 on its way; *copy, to be freed, is what it then lies in.
 * It is converted from the row each time, so a batch that is sent again has the same bytes.
 */
static OutboxEventFlaw
get_utf8(TupleTableSlot *slot, int column, const char **data, uint16_t *len, const char **copy)
{
	const uint8_t *bytes;
	uint32_t	   size;
	const char	  *made;
	int			   made_len;

	*copy = NULL;
	*data = "";
	*len = 0;
	outbox_leaf_reader_bytes(slot, column, &bytes, &size);
	if (bytes == NULL)
		return OUTBOX_EVENT_SOUND;
	if (size > UINT16_MAX)
		return OUTBOX_EVENT_LONG_TEXT;
	made_len = (int) size;
	made = outbox_encoding_try_utf8((const char *) bytes, &made_len);
	if (made == NULL)
		return OUTBOX_EVENT_NO_TEXT;
	if (made != (const char *) bytes)
		*copy = made;
	if (made_len > UINT16_MAX)
		return OUTBOX_EVENT_LONG_TEXT;
	*data = made;
	*len = (uint16_t) made_len;
	return OUTBOX_EVENT_SOUND;
}

/* An event of a held key is noted; it becomes a row together with the batch row. */
static bool
hold_event(OutboxChunk *chunk, TupleTableSlot *slot, uint64 txid)
{
	const OutboxHeldKey *found;
	OutboxKeyId			 id;
	const char			*topic;
	uint16_t			 topic_len;
	const uint8_t		*key;
	uint32_t			 key_len;
	struct varlena		*copy;

	if (slot->tts_isnull[OUTBOX_EVENT_KEY - 1])
		return false;
	get_text(slot, OUTBOX_EVENT_TOPIC, &topic, &topic_len);
	copy = outbox_leaf_reader_bytes(slot, OUTBOX_EVENT_KEY, &key, &key_len);
	outbox_letters_identify(&id, topic, topic_len, key, key_len);
	if (copy != NULL)
		pfree(copy);
	found = outbox_letters_find_held(chunk->letters, &id, txid);
	if (found == NULL)
		return false;
	if (chunk->nheld == chunk->held_room)
	{
		chunk->held_room = Max(64, 2 * chunk->held_room);
		chunk->held = chunk->held == NULL ?
			MemoryContextAllocHuge(chunk->context, chunk->held_room * sizeof(OutboxHeldEntry)) :
			repalloc_huge(chunk->held, chunk->held_room * sizeof(OutboxHeldEntry));
	}
	chunk->held[chunk->nheld].entry = chunk->read;
	chunk->held[chunk->nheld++].blocked_by = found->blocked_by;
	return true;
}

/*
 * What an event is told apart by, and its flaw: nothing emit() stores, but hands and dumps write
 * rows too.  The topic stays as it is: Kafka takes ASCII alone.  copies: two to be freed, or NULL.
 */
static void
describe_event(TupleTableSlot *slot, OutboxWireEvent *event, const char **copies)
{
	TimestampTz		created_at = DatumGetTimestampTz(slot->tts_values[OUTBOX_EVENT_CREATED_AT - 1]);
	bool			whole = get_text(slot, OUTBOX_EVENT_TOPIC, &event->topic, &event->topic_len);
	OutboxEventFlaw type =
		get_utf8(slot, OUTBOX_EVENT_TYPE, &event->type, &event->type_len, &copies[0]);
	OutboxEventFlaw content_type = get_utf8(slot, OUTBOX_EVENT_CONTENT_TYPE, &event->content_type,
											&event->content_type_len, &copies[1]);

	if (!whole)
		event->flaw = OUTBOX_EVENT_LONG_TEXT;
	else if (type != OUTBOX_EVENT_SOUND)
		event->flaw = type;
	else if (content_type != OUTBOX_EVENT_SOUND)
		event->flaw = content_type;
	else if (TIMESTAMP_NOT_FINITE(created_at))
		event->flaw = OUTBOX_EVENT_NO_TIME;
	else
		event->created_at = created_at + OUTBOX_UNIX_EPOCH_US;
	if (!outbox_wire_event_fits(outbox_measure_event(slot) + (uint64_t) event->topic_len +
								event->type_len + event->content_type_len))
		event->flaw = OUTBOX_EVENT_TOO_LARGE;
}

/* The key of one that is refused tells what waits behind it (hold_key). */
static bool
key_fits(TupleTableSlot *slot)
{
	return !slot->tts_isnull[OUTBOX_EVENT_KEY - 1] &&
		toast_raw_datum_size(slot->tts_values[OUTBOX_EVENT_KEY - 1]) <= OUTBOX_WIRE_MAX_FRAME / 2;
}

static void
put_event(OutboxChunk *chunk, TupleTableSlot *slot, bool excluded)
{
	OutboxWireEvent event = {0};
	struct varlena *copies[3] = {NULL};
	const char	   *texts[2];

	event.id = (const uint8_t *) DatumGetUUIDP(slot->tts_values[OUTBOX_EVENT_ID - 1])->data;
	chunk->row.digest = (int64) ((uint64) chunk->row.digest + hash_id(event.id));
	chunk->row.events++;
	chunk->bytes += outbox_measure_event(slot);
	if (excluded)
		return;

	describe_event(slot, &event, texts);
	if (event.flaw == OUTBOX_EVENT_SOUND || key_fits(slot))
		copies[0] = outbox_leaf_reader_bytes(slot, OUTBOX_EVENT_KEY, &event.key, &event.key_len);
	if (event.flaw == OUTBOX_EVENT_SOUND)
	{
		copies[1] = outbox_leaf_reader_bytes(slot, OUTBOX_EVENT_PAYLOAD, &event.payload,
											 &event.payload_len);
		copies[2] = outbox_leaf_reader_bytes(slot, OUTBOX_EVENT_HEADERS, &event.headers,
											 &event.headers_len);
	}
	if (!outbox_wire_put_event(&chunk->frames, &event))
		elog(ERROR, "could not write an event frame");
	chunk->sent++;
	for (int i = 0; i < 3; i++)
	{
		if (copies[i] != NULL)
			pfree(copies[i]);
	}
	for (int i = 0; i < 2; i++)
	{
		if (texts[i] != NULL)
			pfree(unconstify(char *, texts[i]));
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
	outbox_snapshot_copy(chunk->context, &chunk->row.range.lower, &window->range.lower);
	chunk->row.range.lower_at = window->range.lower_at;
	chunk->frames.len = 0;
	chunk->frames.grow = grow_frames;
	chunk->first = chunk->end = chunk->read = chunk->boundary = window->next;
	chunk->sent = 0;
	chunk->bytes = 0;
	chunk->complete = false;
	chunk->nheld = chunk->held_room = 0;
	chunk->held = NULL;
	chunk->left_out = NULL;
	chunk->left_out_room = 0;
	outbox_chunk_holds_start(&chunk->holds, chunk->context);
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
	chunk->boundary_held = chunk->nheld;
	outbox_chunk_holds_mark_boundary(&chunk->holds);
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
	chunk->nheld = chunk->boundary_held;
	outbox_chunk_holds_return(&chunk->holds);
}

static void
cut_window(OutboxChunk *chunk, OutboxWindow *window)
{
	OutboxSnapshot *upper = &chunk->row.range.upper;
	uint32			room = window->range.upper.nxip + 1024;
	OutboxEntry		last;

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
	size_t mark;

	chunk->end = chunk->read;
	window->next = chunk->end;
	if (chunk->end == window->count)
	{
		outbox_snapshot_copy(chunk->context, &chunk->row.range.upper, &window->range.upper);
		chunk->row.range.upper_at = window->range.upper_at;
	}
	else
		cut_window(chunk, window);

	/* the next chunk of this window begins where this one ends */
	outbox_snapshot_copy(window->context, &window->range.lower, &chunk->row.range.upper);
	window->range.lower_at = chunk->row.range.upper_at;

	if (!outbox_wire_begin(&chunk->frames, OUTBOX_FRAME_END, &mark) ||
		!outbox_wire_put_u32(&chunk->frames, (uint32) chunk->sent))
		elog(ERROR, "could not write the end of a batch");
	outbox_wire_finish(&chunk->frames, mark);
	chunk->complete = true;
}

static bool
is_full(const OutboxChunk *chunk, const OutboxWindow *window)
{
	return chunk->row.events >= outbox_guc_batch_max_events ||
		chunk->frames.len >= (size_t) outbox_guc_batch_max_bytes * 1024 ||
		(window->most_bytes > 0 && chunk->frames.len >= (size_t) window->most_bytes);
}

/* Decides, before the next entry is read, whether the chunk ends here. */
static bool
ends_here(OutboxChunk *chunk, const OutboxWindow *window)
{
	OutboxEntryList *entries = window->entries;
	bool			 between = chunk->read == window->count ||
		(chunk->read > chunk->first &&
		 outbox_entry_at(entries, chunk->read - 1).txid !=
			 outbox_entry_at(entries, chunk->read).txid);

	if (between)
	{
		mark_boundary(chunk);
		return chunk->read == window->count || is_full(chunk, window);
	}
	if (!is_full(chunk, window))
		return false;
	if (chunk->boundary > chunk->first)
		return_to_boundary(chunk);
	else if (outbox_chunk_holds_keep_whole(&chunk->holds,
										   outbox_entry_at(entries, chunk->read).txid))
		return false;
	return true;
}

/* Notes of the next entry whether it is sent. */
static void
note_left_out(OutboxChunk *chunk, bool left_out)
{
	size_t bit = chunk->read - chunk->first;
	size_t room = chunk->left_out_room;

	if (bit / 8 >= room)
	{
		chunk->left_out_room = Max(128, 2 * room);
		chunk->left_out = chunk->left_out == NULL ?
			MemoryContextAllocHuge(chunk->context, chunk->left_out_room) :
			repalloc_huge(chunk->left_out, chunk->left_out_room);
		memset(chunk->left_out + room, 0, chunk->left_out_room - room);
	}
	if (left_out)
		chunk->left_out[bit / 8] |= (uint8) (1 << (bit % 8));
	else
		chunk->left_out[bit / 8] &= (uint8) ~(1 << (bit % 8));
}

/*
 * Is the next event left out (I7)?  A hold's refused copies are before dead letters, which are
 * before holds, and these before keys that wait; an old batch has the last of these as letters.
 */
static bool
leave_out(OutboxChunk *chunk, TupleTableSlot *slot, const OutboxEntry *entry, bool whole)
{
	const OutboxLetters *letters = chunk->letters;

	return outbox_chunk_holds_refuse(&chunk->holds, entry->txid) ||
		outbox_letters_leave_out(letters, entry->txid, entry->seq) ||
		outbox_chunk_holds_leave_out(&chunk->holds, slot, entry->txid) ||
		(!whole && letters->held != NULL && hold_event(chunk, slot, entry->txid));
}

bool
outbox_chunk_read(OutboxChunk *chunk, OutboxWindow *window, int budget, bool whole)
{
	OutboxLeafReader reader = {0};
	size_t			 piece_end = chunk->frames.len + PIECE_BYTES;
	bool			 intact = true;

	outbox_session_begin();
	while (budget-- > 0 && chunk->frames.len < piece_end)
	{
		OutboxEntry		entry;
		TupleTableSlot *slot;
		bool			left_out;

		if (whole ? chunk->read == window->count : ends_here(chunk, window))
		{
			complete_chunk(chunk, window);
			break;
		}
		entry = outbox_entry_at(window->entries, chunk->read);
		slot = outbox_leaf_reader_fetch(&reader, window->filenodes, &entry);
		if (slot == NULL)
		{
			intact = false;
			break;
		}
		left_out = leave_out(chunk, slot, &entry, whole);
		note_left_out(chunk, left_out);
		put_event(chunk, slot, left_out);
		chunk->read++;
		OUTBOX_FAULT("relay-reading");
	}
	outbox_leaf_reader_close(&reader);
	outbox_session_end();
	return intact;
}
