/* SPDX-License-Identifier: PostgreSQL
 *
 * event_store.c
 *	  Writes rows of outbox.event into the current leaf.
 *
 * Runs in application backends, and in the relay for copies.  Relation, index list and shape are
 * taken from the relcache for each writer: an index may be rebuilt, a leaf emptied, a column added
 * or the extension made again between two of them (event_shape.c).  I1: txid is the top-level
 * transaction's, which the relay's snapshots know; a subtransaction's they do not.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "commands/sequence.h"
#include "executor/executor.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "event_shape.h"
#include "event_store.h"
#include "fault.h"
#include "leaf.h"

/* A row in the leaf's own column order; arrays of desc->natts. */
typedef struct EventRow
{
	TupleDesc desc;
	Datum	 *values;
	bool	 *nulls;
} EventRow;

struct OutboxEventWriter
{
	int			number; /* of the leaf */
	Relation	leaf;
	EventRow	row;
	Relation   *indexes;
	IndexInfo **infos;
	int			nindexes;
};

static void
set_column(EventRow *row, OutboxEventColumn column, Datum value)
{
	row->values[column] = value;
	row->nulls[column] = false;
}

static void
set_varlena(EventRow *row, OutboxEventColumn column, const void *value)
{
	if (value != NULL)
		set_column(row, column, PointerGetDatum(value));
}

static void
fill_row(EventRow *row, const OutboxEventShape *shape, const OutboxEvent *event, int leaf,
		 const pg_uuid_t *id, TimestampTz created_at, TimestampTz copied_at)
{
	FullTransactionId txid = GetTopFullTransactionId();
	int64			  seq = nextval_internal(outbox_leaf_sequence(), false);

	memcpy(row->values, shape->values, sizeof(Datum) * shape->natts);
	memcpy(row->nulls, shape->nulls, sizeof(bool) * shape->natts);
	set_column(row, OUTBOX_COLUMN_TXID, UInt64GetDatum(U64FromFullTransactionId(txid)));
	set_column(row, OUTBOX_COLUMN_SEQ, Int64GetDatum(seq));
	set_column(row, OUTBOX_COLUMN_SEGMENT, Int16GetDatum(leaf));
	set_column(row, OUTBOX_COLUMN_ID, UUIDPGetDatum(id));
	set_varlena(row, OUTBOX_COLUMN_TOPIC, event->topic);
	set_varlena(row, OUTBOX_COLUMN_KEY, event->key);
	set_varlena(row, OUTBOX_COLUMN_TYPE, event->type);
	set_varlena(row, OUTBOX_COLUMN_PAYLOAD, event->payload);
	set_varlena(row, OUTBOX_COLUMN_CONTENT_TYPE, event->content_type);
	set_varlena(row, OUTBOX_COLUMN_HEADERS, event->headers);
	set_column(row, OUTBOX_COLUMN_CREATED_AT, TimestampTzGetDatum(created_at));
	if (copied_at != 0)
		set_column(row, OUTBOX_COLUMN_COPIED_AT, TimestampTzGetDatum(copied_at));
}

static void
insert_entry(Relation leaf, Relation index, IndexInfo *info, HeapTuple tuple, Datum *values,
			 bool *nulls)
{
	index_insert(index, values, nulls, &tuple->t_self, leaf,
				 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO, false, info);
	outbox_compat_end_insert(index, info);
}

/* An index somebody added, with expressions or a condition. */
static void
insert_computed_entry(Relation leaf, Relation index, IndexInfo *info, HeapTuple tuple)
{
	EState		   *estate = CreateExecutorState();
	ExprContext	   *context = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(leaf), &TTSOpsHeapTuple);
	Datum			values[INDEX_MAX_KEYS];
	bool			nulls[INDEX_MAX_KEYS];

	ExecStoreHeapTuple(tuple, slot, false);
	context->ecxt_scantuple = slot;
	if (ExecQual(ExecPrepareQual(info->ii_Predicate, estate), context))
	{
		FormIndexDatum(info, slot, estate, values, nulls);
		insert_entry(leaf, index, info, tuple, values, nulls);
	}
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

static void
insert_index_entry(Relation leaf, Relation index, IndexInfo *info, HeapTuple tuple,
				   const EventRow *row)
{
	Datum values[INDEX_MAX_KEYS];
	bool  nulls[INDEX_MAX_KEYS];

	if (info->ii_Expressions != NIL || info->ii_Predicate != NIL)
	{
		insert_computed_entry(leaf, index, info, tuple);
		return;
	}
	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
	{
		int column = info->ii_IndexAttrNumbers[i] - 1;

		values[i] = row->values[column];
		nulls[i] = row->nulls[column];
	}
	insert_entry(leaf, index, info, tuple, values, nulls);
}

static int64
size_of(const bytea *value)
{
	return value == NULL ? 0 : (int64) VARSIZE_ANY_EXHDR(value);
}

int64
outbox_event_size(const OutboxEvent *event)
{
	return size_of(event->key) + size_of(event->payload) + size_of(event->headers);
}

/*
 * The ring before its leaf, as an INSERT and whoever changes the ring lock them; what is read of
 * its shape then holds until the transaction ends.
 */
static void
lock_ring(void)
{
	Oid locked = InvalidOid;
	Oid ring;

	while ((ring = outbox_leaf_ring()) != locked)
	{
		if (OidIsValid(locked))
			UnlockRelationOid(locked, RowExclusiveLock); /* dropped while this waited */
		LockRelationOid(ring, RowExclusiveLock);
		locked = ring;
	}
}

static void
open_indexes(OutboxEventWriter *writer)
{
	List	 *indexes = RelationGetIndexList(writer->leaf);
	ListCell *cell;

	writer->indexes = palloc(sizeof(Relation) * (list_length(indexes) + 1));
	writer->infos = palloc(sizeof(IndexInfo *) * (list_length(indexes) + 1));
	writer->nindexes = 0;
	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), RowExclusiveLock);

		if (!index->rd_index->indisready)
		{
			index_close(index, RowExclusiveLock);
			continue;
		}
		writer->infos[writer->nindexes] = BuildIndexInfo(index);
		writer->indexes[writer->nindexes++] = index;
	}
	list_free(indexes);
}

OutboxEventWriter *
outbox_event_store_open(void)
{
	OutboxEventWriter *writer = palloc(sizeof(OutboxEventWriter));
	EventRow		  *row = &writer->row;

	lock_ring();
	writer->number = outbox_leaf_current();
	writer->leaf = table_open(outbox_leaf_relation(writer->number), RowExclusiveLock);
	row->values = palloc(sizeof(Datum) * RelationGetNumberOfAttributes(writer->leaf));
	row->nulls = palloc(sizeof(bool) * RelationGetNumberOfAttributes(writer->leaf));
	open_indexes(writer);
	return writer;
}

void
outbox_event_store_put(OutboxEventWriter *writer, const OutboxEvent *event, const pg_uuid_t *id,
					   TimestampTz created_at, TimestampTz copied_at)
{
	EventRow *row = &writer->row;
	HeapTuple tuple;

	row->desc = RelationGetDescr(writer->leaf);
	fill_row(row, outbox_event_shape(writer->leaf), event, writer->number, id, created_at,
			 copied_at);
	tuple = heap_form_tuple(row->desc, row->values, row->nulls);
	tuple->t_tableOid = RelationGetRelid(writer->leaf);
	OUTBOX_FAULT("emit-before-insert");
	heap_insert(writer->leaf, tuple, GetCurrentCommandId(true), 0, NULL);
	OUTBOX_FAULT("emit-heap-inserted");
	for (int i = 0; i < writer->nindexes; i++)
		insert_index_entry(writer->leaf, writer->indexes[i], writer->infos[i], tuple, row);
	OUTBOX_FAULT("emit-indexed");
	heap_freetuple(tuple);
}

void
outbox_event_store_close(OutboxEventWriter *writer)
{
	for (int i = 0; i < writer->nindexes; i++)
	{
		pfree(writer->infos[i]);
		index_close(writer->indexes[i], RowExclusiveLock);
	}
	table_close(writer->leaf, NoLock);
	pfree(writer->indexes);
	pfree(writer->infos);
	pfree(writer->row.values);
	pfree(writer->row.nulls);
	pfree(writer);
}

void
outbox_event_store_insert(const OutboxEvent *event, const pg_uuid_t *id, TimestampTz created_at)
{
	OutboxEventWriter *writer = outbox_event_store_open();

	outbox_event_store_put(writer, event, id, created_at, 0);
	outbox_event_store_close(writer);
}
