/* SPDX-License-Identifier: PostgreSQL
 *
 * event_store.c
 *	  Writes one row of outbox.event into the current leaf.
 *
 * Runs in application backends, and in the relay for a replay.  Relation, index list and columns are taken from
 * the relcache in each call: an index may be rebuilt, a leaf emptied, a column
 * added or the extension made again between two calls.  I1: txid is the
 * top-level transaction's, which the relay's snapshots know; a subtransaction's
 * they do not.
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
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/timestamp.h"

#include "event_store.h"
#include "fault.h"
#include "segment.h"

typedef enum EventColumn
{
	COLUMN_TXID,
	COLUMN_SEQ,
	COLUMN_SEGMENT,
	COLUMN_ID,
	COLUMN_TOPIC,
	COLUMN_KEY,
	COLUMN_TYPE,
	COLUMN_PAYLOAD,
	COLUMN_CONTENT_TYPE,
	COLUMN_HEADERS,
	COLUMN_CREATED_AT,
	COLUMN_COPIED_AT,
	COLUMNS
} EventColumn;

static const char *const column_names[COLUMNS] = {
	"txid", "seq", "segment", "id", "topic", "key", "type", "payload",
	"content_type", "headers", "created_at", "copied_at",
};

/* A row in the leaf's own column order; arrays of desc->natts. */
typedef struct EventRow
{
	TupleDesc	desc;
	Datum	   *values;
	bool	   *nulls;
} EventRow;

/* Index of a column in the leaf; where the install script put it, as a rule. */
static int
find_column(TupleDesc desc, EventColumn column)
{
	const char *name = column_names[column];

	if ((int) column < desc->natts &&
		strcmp(NameStr(TupleDescAttr(desc, column)->attname), name) == 0)
		return column;
	for (int i = 0; i < desc->natts; i++)
	{
		if (strcmp(NameStr(TupleDescAttr(desc, i)->attname), name) == 0)
			return i;
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_COLUMN),
			 errmsg("column \"%s\" of outbox.event does not exist", name)));
	return -1;
}

static void
set_column(EventRow *row, EventColumn column, Datum value)
{
	int			i = find_column(row->desc, column);

	row->values[i] = value;
	row->nulls[i] = false;
}

static void
set_varlena(EventRow *row, EventColumn column, const void *value)
{
	if (value != NULL)
		set_column(row, column, PointerGetDatum(value));
}

static void
fill_row(EventRow *row, const OutboxEvent *event, int segment, const pg_uuid_t *id,
		 TimestampTz created_at, TimestampTz copied_at)
{
	FullTransactionId txid = GetTopFullTransactionId();
	int64		seq = nextval_internal(outbox_segment_named_relation("event_seq"), false);

	memset(row->nulls, true, sizeof(bool) * row->desc->natts);
	set_column(row, COLUMN_TXID, UInt64GetDatum(U64FromFullTransactionId(txid)));
	set_column(row, COLUMN_SEQ, Int64GetDatum(seq));
	set_column(row, COLUMN_SEGMENT, Int16GetDatum(segment));
	set_column(row, COLUMN_ID, UUIDPGetDatum(id));
	set_varlena(row, COLUMN_TOPIC, event->topic);
	set_varlena(row, COLUMN_KEY, event->key);
	set_varlena(row, COLUMN_TYPE, event->type);
	set_varlena(row, COLUMN_PAYLOAD, event->payload);
	set_varlena(row, COLUMN_CONTENT_TYPE, event->content_type);
	set_varlena(row, COLUMN_HEADERS, event->headers);
	set_column(row, COLUMN_CREATED_AT, TimestampTzGetDatum(created_at));
	if (copied_at != 0)
		set_column(row, COLUMN_COPIED_AT, TimestampTzGetDatum(copied_at));
}

static void
insert_entry(Relation leaf, Relation index, IndexInfo *info, HeapTuple tuple,
			 Datum *values, bool *nulls)
{
	index_insert(index, values, nulls, &tuple->t_self, leaf,
				 index->rd_index->indisunique ? UNIQUE_CHECK_YES : UNIQUE_CHECK_NO,
				 false, info);
}

/* An index somebody added, with expressions or a condition. */
static void
insert_computed_entry(Relation leaf, Relation index, IndexInfo *info, HeapTuple tuple)
{
	EState	   *estate = CreateExecutorState();
	ExprContext *context = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(leaf),
													&TTSOpsHeapTuple);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

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
insert_index_entry(Relation leaf, Relation index, HeapTuple tuple, const EventRow *row)
{
	IndexInfo  *info = BuildIndexInfo(index);
	Datum		values[INDEX_MAX_KEYS];
	bool		nulls[INDEX_MAX_KEYS];

	if (info->ii_Expressions != NIL || info->ii_Predicate != NIL)
	{
		insert_computed_entry(leaf, index, info, tuple);
		return;
	}
	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
	{
		int			column = info->ii_IndexAttrNumbers[i] - 1;

		values[i] = row->values[column];
		nulls[i] = row->nulls[column];
	}
	insert_entry(leaf, index, info, tuple, values, nulls);
}

static void
insert_index_entries(Relation leaf, HeapTuple tuple, const EventRow *row)
{
	List	   *indexes = RelationGetIndexList(leaf);
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), RowExclusiveLock);

		if (index->rd_index->indisready)
			insert_index_entry(leaf, index, tuple, row);
		index_close(index, RowExclusiveLock);
	}
	list_free(indexes);
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

void
outbox_event_store_insert(const OutboxEvent *event, const pg_uuid_t *id,
						  TimestampTz created_at, TimestampTz copied_at)
{
	int			segment = outbox_segment_current();
	Relation	leaf = table_open(outbox_segment_relation(segment), RowExclusiveLock);
	EventRow	row;
	HeapTuple	tuple;

	row.desc = RelationGetDescr(leaf);
	row.values = palloc(sizeof(Datum) * row.desc->natts);
	row.nulls = palloc(sizeof(bool) * row.desc->natts);
	fill_row(&row, event, segment, id, created_at, copied_at);

	tuple = heap_form_tuple(row.desc, row.values, row.nulls);
	tuple->t_tableOid = RelationGetRelid(leaf);
	OUTBOX_FAULT("emit-before-insert");
	heap_insert(leaf, tuple, GetCurrentCommandId(true), 0, NULL);
	OUTBOX_FAULT("emit-heap-inserted");
	insert_index_entries(leaf, tuple, &row);
	OUTBOX_FAULT("emit-indexed");

	heap_freetuple(tuple);
	pfree(row.values);
	pfree(row.nulls);
	table_close(leaf, NoLock);
}
