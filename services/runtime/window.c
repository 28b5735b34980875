/* SPDX-License-Identifier: PostgreSQL
 *
 * window.c
 *	  The records of a member whose handlers call out.
 *
 * Runs in the services, member threads.  No database, no Kafka.
 */
#define _GNU_SOURCE
#include "window.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "services/kafka/digest.h"
#include "src/common/hash.h"

static uint8_t *
copy_bytes(const uint8_t *bytes, size_t len)
{
	uint8_t *copy;

	if (bytes == NULL)
		return NULL;
	copy = malloc(len + 1);
	if (copy == NULL)
		abort(); /* nothing is committed, the record is read again */
	memcpy(copy, bytes, len);
	return copy;
}

/* The record as it came, in memory of its own: a call may end after the consumer is closed. */
static void
keep_record(OutboxRecord *copy, const OutboxRecord *record)
{
	*copy = (OutboxRecord) {.partition = record->partition,
							.offset = record->offset,
							.timestamp_ms = record->timestamp_ms,
							.key_len = record->key_len,
							.value_len = record->raw_value_len,
							.headers_len = record->raw_headers_len,
							.source = record->source};
	copy->topic = strdup(record->topic);
	copy->key = copy_bytes(record->key, record->key_len);
	copy->memory = copy_bytes(record->raw_value, record->raw_value_len);
	copy->value = copy->memory;
	copy->header_memory = copy_bytes(record->raw_headers, record->raw_headers_len);
	copy->headers = copy->header_memory;
	outbox_record_identify(copy);
}

static void
drop_record(OutboxRecord *record)
{
	outbox_record_clear(record);
	free(record->memory);
	free((void *) record->key);
	free((void *) record->topic);
	record->memory = NULL;
	record->key = NULL;
	record->topic = NULL;
}

static bool
is_stale(const OutboxEntry *entry)
{
	return !entry->partition->owned || entry->reading != entry->partition->reading;
}

/* Is the record in the window? */
static bool
has_record(const OutboxWindow *window, const OutboxRecord *record)
{
	for (int i = window->count - 1; i >= 0; i--)
	{
		const OutboxEntry *entry = window->entries[i];

		if (entry->partition == record->source && entry->anchor.offset <= record->offset &&
			!is_stale(entry))
			return entry->anchor.offset == record->offset;
	}
	return false;
}

OutboxEntry *
outbox_window_add(OutboxWindow *window, const OutboxRecord *record)
{
	OutboxEntry *entry;

	if (record->offset < record->source->next || has_record(window, record))
		return NULL;
	if (window->count == window->room)
	{
		window->room = window->room > 0 ? 2 * window->room : 64;
		window->entries =
			realloc(window->entries, (size_t) window->room * sizeof(*window->entries));
	}
	entry = calloc(1, sizeof(*entry));
	if (entry == NULL || window->entries == NULL)
		abort(); /* nothing is committed, the records are read again */
	keep_record(&entry->item.record, record);
	entry->item.in_window = true;
	entry->item.tries = 1;
	entry->partition = record->source;
	entry->reading = record->source->reading;
	entry->anchor =
		(OutboxAnchor) {.offset = record->offset,
						.timestamp_ms = record->timestamp_ms,
						.digest = (int64_t) outbox_record_digest(record->key, record->key_len,
																 record->raw_value,
																 record->raw_value_len)};
	entry->keyed = record->key != NULL;
	if (entry->keyed)
		entry->key_hash = outbox_hash_bytes(record->topic, strlen(record->topic)) ^
			outbox_hash_bytes((const char *) record->key, record->key_len);
	entry->id_hash =
		outbox_hash_bytes(entry->item.record.claim_id, strlen(entry->item.record.claim_id));
	window->entries[window->count++] = entry;
	return entry;
}

void
outbox_entry_free(OutboxEntry *entry)
{
	outbox_call_clear(&entry->item.call);
	if (entry->state != OUTBOX_ENTRY_DONE)
		drop_record(&entry->item.record);
	free(entry->told);
	free(entry);
}

void
outbox_window_free(OutboxWindow *window)
{
	for (int i = 0; i < window->count; i++)
	{
		if (window->entries[i]->state != OUTBOX_ENTRY_CALLING)
			outbox_entry_free(window->entries[i]);
	}
	free(window->entries);
	*window = (OutboxWindow) {0};
}

bool
outbox_window_waits(const OutboxWindow *window, const OutboxPartition *partition, int64_t offset)
{
	for (int i = 0; i < window->count; i++)
	{
		const OutboxEntry *entry = window->entries[i];

		if (entry->partition == partition && entry->anchor.offset == offset && !is_stale(entry))
			return entry->state != OUTBOX_ENTRY_DONE && !entry->in_batch;
	}
	return false;
}

OutboxEntry *
outbox_window_entry(OutboxItem *item)
{
	return (OutboxEntry *) ((char *) item - offsetof(OutboxEntry, item));
}

/* Is it done, and all before it? */
static bool
is_passed(const OutboxEntry *entry)
{
	return entry->state == OUTBOX_ENTRY_DONE && entry->anchor.offset < entry->partition->next;
}

static void
forget_counts(OutboxPartition *partition)
{
	partition->unfinished = partition->in_window = 0;
	partition->waiting.offset = -1;
}

void
outbox_window_sweep(OutboxWindow *window)
{
	int kept = 0;

	for (int i = 0; i < window->count; i++)
	{
		OutboxEntry *entry = window->entries[i];

		if (!is_stale(entry) && !is_passed(entry))
		{
			window->entries[kept++] = entry;
			continue;
		}
		forget_counts(entry->partition); /* until it is counted */
		if (entry->state == OUTBOX_ENTRY_CALLING)
			entry->dropped = true;
		else
			outbox_entry_free(entry);
	}
	window->count = kept;
}

void
outbox_window_done(OutboxEntry *entry)
{
	outbox_call_clear(&entry->item.call);
	drop_record(&entry->item.record);
	free(entry->told);
	entry->told = NULL;
	entry->in_batch = false;
	entry->state = OUTBOX_ENTRY_DONE;
}

void
outbox_window_end(const OutboxWindow *window, const OutboxPartition *partition,
				  OutboxWindowEnd *end)
{
	int64_t first_unfinished = -1;

	*end = (OutboxWindowEnd) {.next = partition->watermark, .done_to = -1};
	for (int i = 0; i < window->count; i++)
	{
		const OutboxEntry *entry = window->entries[i];
		bool			   done = entry->state == OUTBOX_ENTRY_DONE || entry->in_batch;

		if (entry->partition != partition || is_stale(entry))
			continue;
		if (!done && first_unfinished < 0)
			first_unfinished = entry->anchor.offset;
		else if (done && first_unfinished < 0)
		{
			end->moved = true;
			end->last = entry->anchor;
		}
		else if (entry->in_batch)
			end->done_to = entry->anchor.offset + 1;
	}
	if (end->moved)
		end->next = end->last.offset + 1;
	else if (end->next < 0)
		end->next = first_unfinished;
}

/* Is it called for, and not done? */
static bool
is_under_way(const OutboxEntry *entry)
{
	return entry->state == OUTBOX_ENTRY_CALLING || entry->state == OUTBOX_ENTRY_WAITING;
}

void
outbox_window_count(OutboxWindow *window, OutboxWindowCounts *counts)
{
	*counts = (OutboxWindowCounts) {0};
	for (int i = 0; i < window->count; i++)
		forget_counts(window->entries[i]->partition);
	for (int i = 0; i < window->count; i++)
	{
		OutboxEntry *entry = window->entries[i];
		bool		 unfinished = entry->state != OUTBOX_ENTRY_DONE && !is_stale(entry);

		if (entry->partition->waiting.offset < 0 && !is_stale(entry))
			entry->partition->waiting = entry->anchor;
		entry->partition->unfinished += unfinished;
		entry->partition->in_window++;
		counts->unfinished += unfinished;
		counts->under_way += is_under_way(entry);
		counts->calling += entry->state == OUTBOX_ENTRY_CALLING;
	}
}

/* Keys and events of records that are not done. */
typedef struct Unfinished
{
	uint64_t *hashes;
	int		  count;
} Unfinished;

/* Is it behind one of its key or event?  Those behind it will be behind it. */
static bool
comes_behind(Unfinished *unfinished, const OutboxEntry *entry)
{
	bool behind = false;

	for (int i = 0; i < unfinished->count && !behind; i++)
		behind = (entry->keyed && unfinished->hashes[i] == entry->key_hash) ||
			unfinished->hashes[i] == entry->id_hash;
	if (entry->keyed)
		unfinished->hashes[unfinished->count++] = entry->key_hash;
	unfinished->hashes[unfinished->count++] = entry->id_hash;
	return behind;
}

static bool
is_due(const OutboxEntry *entry, int64_t now)
{
	return entry->partition->active &&
		(entry->state == OUTBOX_ENTRY_READ ||
		 (entry->state == OUTBOX_ENTRY_WAITING && entry->call_at <= now));
}

int
outbox_window_candidates(const OutboxWindow *window, int64_t now, int fresh, int most,
						 OutboxEntry **found)
{
	Unfinished unfinished = {malloc((size_t) (2 * window->count + 1) * sizeof(uint64_t)), 0};
	int		   count = 0;

	if (unfinished.hashes == NULL)
		abort(); /* nothing is committed, the records are read again */
	for (int i = 0; i < window->count && count < most; i++)
	{
		OutboxEntry *entry = window->entries[i];
		bool		 behind;

		/* nothing is behind a record that is stepped over */
		if (entry->state == OUTBOX_ENTRY_DONE || is_stale(entry) ||
			(entry->state == OUTBOX_ENTRY_ANSWERED && entry->item.verdict == OUTBOX_VERDICT_IGNORE))
			continue;
		behind = comes_behind(&unfinished, entry);
		if (behind || !is_due(entry, now) || (entry->state == OUTBOX_ENTRY_READ && fresh <= 0))
			continue;
		fresh -= entry->state == OUTBOX_ENTRY_READ;
		found[count++] = entry;
	}
	free(unfinished.hashes);
	return count;
}

int
outbox_window_ready(const OutboxWindow *window, int most, OutboxEntry **found)
{
	int count = 0;

	for (int i = 0; i < window->count && count < most; i++)
	{
		OutboxEntry *entry = window->entries[i];

		if (entry->state == OUTBOX_ENTRY_ANSWERED && entry->partition->active && !is_stale(entry))
			found[count++] = entry;
	}
	return count;
}
