/* SPDX-License-Identifier: PostgreSQL
 *
 * leaf_reader.c
 *	  Rows of outbox.event by their place.
 *
 * Runs in the relay.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "fmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "leaf_reader.h"
#include "src/compat.h"
#include "src/event_shape.h"
#include "src/leaf.h"

TupleTableSlot *
outbox_leaf_reader_fetch(OutboxLeafReader *reader, const Oid *filenodes, const OutboxEntry *entry)
{
	int				leaf = entry->leaf;
	ItemPointerData tid;
	bool			call_again = false;

	if (reader->leaves[leaf] == NULL)
	{
		reader->leaves[leaf] = table_open(outbox_leaf_relation(leaf), AccessShareLock);
		outbox_event_check_columns(reader->leaves[leaf]);
		reader->fetches[leaf] = outbox_compat_fetch_begin(reader->leaves[leaf]);
		reader->slots[leaf] = table_slot_create(reader->leaves[leaf], NULL);
	}
	if (outbox_compat_file_node(reader->leaves[leaf]) != filenodes[leaf])
		return NULL;
	ItemPointerSet(&tid, entry->block, entry->offset);
	if (!table_index_fetch_tuple(reader->fetches[leaf], &tid, GetActiveSnapshot(),
								 reader->slots[leaf], &call_again, NULL))
		return NULL;
	slot_getallattrs(reader->slots[leaf]);
	return reader->slots[leaf];
}

void
outbox_leaf_reader_close(OutboxLeafReader *reader)
{
	for (int i = 0; i < OUTBOX_LEAVES; i++)
	{
		if (reader->leaves[i] == NULL)
			continue;
		ExecDropSingleTupleTableSlot(reader->slots[i]);
		table_index_fetch_end(reader->fetches[i]);
		table_close(reader->leaves[i], NoLock);
	}
}

struct varlena *
outbox_leaf_reader_bytes(TupleTableSlot *slot, int column, const uint8_t **data, uint32_t *len)
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
