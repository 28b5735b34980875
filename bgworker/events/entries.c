/* SPDX-License-Identifier: PostgreSQL
 *
 * entries.c
 *	  The order of a window, in memory or in a temporary file.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "storage/buffile.h"
#include "utils/memutils.h"

#include "entries.h"
#include "src/compat.h"
#include "src/guc.h"

#define FIRST_ROOM	64
#define BLOCK_BYTES (OUTBOX_ENTRY_BLOCK * sizeof(OutboxEntry))

StaticAssertDecl(BLOCK_BYTES % BLCKSZ == 0, "a block of entries is whole blocks of a file");

/* An entry's key as a bytea datum. */
typedef struct EntryDatum
{
	int32 header;
	uint8 key[OUTBOX_ENTRY_KEY];
} EntryDatum;

/* ---------------------------------------------------------------- sorts */

static Tuplesortstate *
begin_sort(void)
{
	return tuplesort_begin_datum(BYTEAOID, ByteaLessOperator, InvalidOid, false,
								 outbox_guc_window_memory, NULL, TUPLESORT_NONE);
}

static void
put_to_sort(Tuplesortstate *sort, const OutboxEntry *entry)
{
	EntryDatum datum;

	SET_VARSIZE(&datum, sizeof(datum));
	outbox_entry_encode(entry, datum.key);
	tuplesort_putdatum(sort, PointerGetDatum(&datum), false);
}

static bool
get_from_sort(Tuplesortstate *sort, OutboxEntry *entry)
{
	Datum datum;
	bool  isnull;

	CHECK_FOR_INTERRUPTS();
	if (!outbox_compat_sort_next(sort, &datum, &isnull))
		return false;
	outbox_entry_decode((const uint8 *) VARDATA_ANY(DatumGetPointer(datum)), entry);
	pfree(DatumGetPointer(datum));
	return true;
}

/* Untimed entries are sorted twice: the first time brings a transaction's last seq to its front. */
static void
spill_entry(OutboxEntryWriter *writer, const OutboxEntry *entry)
{
	OutboxEntry falling = *entry;

	if (entry->rank != OUTBOX_RANK_UNTIMED)
	{
		put_to_sort(writer->sort, entry);
		return;
	}
	if (writer->untimed == NULL)
		writer->untimed = begin_sort();
	falling.seq = ~entry->seq;
	put_to_sort(writer->untimed, &falling);
}

static void
order_untimed(OutboxEntryWriter *writer)
{
	OutboxEntry entry;
	uint64		txid = 0;
	int64		last_seq = 0;

	tuplesort_performsort(writer->untimed);
	while (get_from_sort(writer->untimed, &entry))
	{
		entry.seq = ~entry.seq;
		if (entry.txid != txid)
		{
			txid = entry.txid;
			last_seq = entry.seq;
		}
		entry.order = last_seq;
		put_to_sort(writer->sort, &entry);
	}
	tuplesort_end(writer->untimed);
}

/* ----------------------------------------------------------------- file */

static void
load_block(OutboxEntryList *list, size_t at)
{
	size_t block = at / OUTBOX_ENTRY_BLOCK;

	list->loaded = 0;
	if (BufFileSeekBlock(list->file, (long) (block * (BLOCK_BYTES / BLCKSZ))) != 0)
		ereport(ERROR,
				(errcode_for_file_access(),
				 errmsg("could not seek in the temporary file of a backlog: %m")));
	list->first = block * OUTBOX_ENTRY_BLOCK;
	list->loaded = BufFileRead(list->file, list->entries, BLOCK_BYTES) / sizeof(OutboxEntry);
	if (at - list->first >= list->loaded)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the temporary file of a backlog is too short")));
}

static void
close_file(void *file)
{
	BufFileClose(file);
}

/* The file belongs to the list's context: it is closed, and removed, with it. */
static void
open_file(OutboxEntryWriter *writer, OutboxEntryList *list)
{
	MemoryContextCallback *callback =
		MemoryContextAlloc(writer->context, sizeof(MemoryContextCallback));
	MemoryContext previous = MemoryContextSwitchTo(writer->context);

	list->file = BufFileCreateTemp(true);
	callback->func = close_file;
	callback->arg = list->file;
	MemoryContextRegisterResetCallback(writer->context, callback);
	MemoryContextSwitchTo(previous);
}

static void
write_file(OutboxEntryWriter *writer, OutboxEntryList *list)
{
	size_t filled = 0;
	size_t at = 0;

	open_file(writer, list);
	list->load = load_block;
	list->entries = MemoryContextAlloc(writer->context, BLOCK_BYTES);
	if (writer->untimed != NULL)
		order_untimed(writer);
	tuplesort_performsort(writer->sort);
	while (get_from_sort(writer->sort, &list->entries[filled]))
	{
		outbox_lowest_note(list->lowest, at++, list->entries[filled].txid);
		if (++filled == OUTBOX_ENTRY_BLOCK)
		{
			BufFileWrite(list->file, list->entries, BLOCK_BYTES);
			filled = 0;
		}
	}
	BufFileWrite(list->file, list->entries, filled * sizeof(OutboxEntry));
	tuplesort_end(writer->sort);
	load_block(list, 0); /* nothing is left to be written after the transaction */
}

/* --------------------------------------------------------------- writer */

void
outbox_entries_begin(OutboxEntryWriter *writer, MemoryContext context)
{
	memset(writer, 0, sizeof(*writer));
	writer->context = context;
	writer->room = FIRST_ROOM;
	writer->entries = MemoryContextAlloc(context, FIRST_ROOM * sizeof(OutboxEntry));
}

static void
make_room(OutboxEntryWriter *writer)
{
	size_t most = (size_t) outbox_guc_window_memory * 1024 / sizeof(OutboxEntry);

	if (writer->room < most)
	{
		writer->room = Min(2 * writer->room, most);
		writer->entries = repalloc_huge(writer->entries, writer->room * sizeof(OutboxEntry));
		return;
	}
	writer->sort = begin_sort();
	for (size_t i = 0; i < writer->count; i++)
		spill_entry(writer, &writer->entries[i]);
	pfree(writer->entries);
	writer->entries = NULL;
}

void
outbox_entries_put(OutboxEntryWriter *writer, const OutboxEntry *entry)
{
	if (writer->entries != NULL && writer->count == writer->room)
		make_room(writer);
	if (writer->entries != NULL)
		writer->entries[writer->count] = *entry;
	else
		spill_entry(writer, entry);
	writer->count++;
}

OutboxEntryList *
outbox_entries_finish(OutboxEntryWriter *writer)
{
	OutboxEntryList *list = MemoryContextAllocZero(writer->context, sizeof(OutboxEntryList));

	list->lowest =
		MemoryContextAllocHuge(writer->context,
							   (writer->count / OUTBOX_ENTRY_BLOCK + 1) * sizeof(uint64));
	if (writer->sort != NULL)
	{
		write_file(writer, list);
		return list;
	}
	outbox_entries_sort(writer->entries, writer->count);
	for (size_t i = 0; i < writer->count; i++)
		outbox_lowest_note(list->lowest, i, writer->entries[i].txid);
	list->entries = writer->entries;
	list->loaded = writer->count;
	return list;
}
