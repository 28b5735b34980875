/* SPDX-License-Identifier: PostgreSQL
 *
 * outgoing.c
 *	  The foreign table outbox.outgoing: a plain INSERT is emit().
 *
 * Runs in application backends.  The executor calls a foreign table's insert for each row whatever
 * session_replication_role says and whether or not the library was preloaded, while a trigger of a
 * view does not fire in replica role: the row would be counted and not stored.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "foreign/fdwapi.h"
#include "optimizer/paths.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "emit.h"
#include "event_headers.h"
#include "uuidv7.h"

typedef enum OutgoingColumn
{
	OUTGOING_TOPIC,
	OUTGOING_KEY,
	OUTGOING_TYPE,
	OUTGOING_PAYLOAD,
	OUTGOING_HEADERS,
	OUTGOING_ID,
	OUTGOING_COLUMNS
} OutgoingColumn;

static const struct
{
	const char *name;
	Oid			type;
} columns[OUTGOING_COLUMNS] = {
	[OUTGOING_TOPIC] = {"topic", TEXTOID},		[OUTGOING_KEY] = {"key", TEXTOID},
	[OUTGOING_TYPE] = {"type", TEXTOID},		[OUTGOING_PAYLOAD] = {"payload", JSONBOID},
	[OUTGOING_HEADERS] = {"headers", JSONBOID}, [OUTGOING_ID] = {"id", UUIDOID},
};

/* Where the table has the columns; an index of the slot's arrays. */
typedef struct OutgoingInsert
{
	int places[OUTGOING_COLUMNS];
} OutgoingInsert;

PG_FUNCTION_INFO_V1(outbox_outgoing_handler);

/*
 * The column of an event that this one is.  One that is none would be taken and forgotten, so it is
 * refused.
 */
static OutgoingColumn
identify_column(Relation table, Form_pg_attribute attribute)
{
	const char *name = NameStr(attribute->attname);
	int			column = 0;

	while (column < OUTGOING_COLUMNS && strcmp(columns[column].name, name) != 0)
		column++;
	if (column == OUTGOING_COLUMNS)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" of \"%s\" is none that outbox.emit() has", name,
						RelationGetRelationName(table)),
				 errhint("Drop it, and put further data into the payload or the headers.")));
	if (columns[column].type != attribute->atttypid)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("column \"%s\" of \"%s\" is of type %s, not of type %s", name,
						RelationGetRelationName(table), format_type_be(attribute->atttypid),
						format_type_be(columns[column].type)),
				 errhint("Give it that type again.")));
	return (OutgoingColumn) column;
}

static OutgoingInsert *
find_columns(Relation table)
{
	OutgoingInsert *insert = palloc(sizeof(OutgoingInsert));
	TupleDesc		desc = RelationGetDescr(table);

	for (int column = 0; column < OUTGOING_COLUMNS; column++)
		insert->places[column] = -1;
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped)
			insert->places[identify_column(table, attribute)] = i;
	}
	for (int column = 0; column < OUTGOING_COLUMNS; column++)
		if (insert->places[column] < 0)
			ereport(
				ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" has no column \"%s\" of type %s", RelationGetRelationName(table),
						columns[column].name, format_type_be(columns[column].type)),
				 errhint("Drop and create the extension outbox again, or call outbox.emit().")));
	return insert;
}

/* INSERT */
static void
begin_modify(ModifyTableState *state, ResultRelInfo *result, List *private, int subplan, int flags)
{
	result->ri_FdwState = find_columns(result->ri_RelationDesc);
}

/* COPY, and an INSERT into a table this one is a partition of. */
static void
begin_insert(ModifyTableState *state, ResultRelInfo *result)
{
	result->ri_FdwState = find_columns(result->ri_RelationDesc);
}

static bool
get_value(const OutgoingInsert *insert, const TupleTableSlot *slot, OutgoingColumn column,
		  Datum *value)
{
	*value = slot->tts_values[insert->places[column]];
	return !slot->tts_isnull[insert->places[column]];
}

/*
 * An id where none was given: what generated columns, constraints, AFTER triggers and RETURNING see
 * is what is stored.  A new tuple, as the slot may have one already; the executor has made the
 * generated columns before.
 */
static void
fill_id(ResultRelInfo *result, EState *estate, TupleTableSlot *slot)
{
	const OutgoingInsert *insert = result->ri_FdwState;
	const TupleConstr	 *constr = slot->tts_tupleDescriptor->constr;
	int					  place = insert->places[OUTGOING_ID];
	pg_uuid_t			  id;
	MemoryContext		  caller;

	slot_getallattrs(slot);
	if (!slot->tts_isnull[place])
		return;
	outbox_uuidv7_make(&id, GetCurrentTimestamp());
	slot->tts_values[place] = UUIDPGetDatum(&id);
	slot->tts_isnull[place] = false;
	caller = MemoryContextSwitchTo(slot->tts_mcxt);
	ExecForceStoreHeapTuple(heap_form_tuple(slot->tts_tupleDescriptor, slot->tts_values,
											slot->tts_isnull),
							slot, true);
	MemoryContextSwitchTo(caller);
	slot->tts_tableOid = RelationGetRelid(result->ri_RelationDesc);
	if (constr != NULL && constr->has_generated_stored)
		ExecComputeStoredGenerated(result, estate, slot, CMD_INSERT);
	slot_getallattrs(slot);
}

static void
emit_row(const OutgoingInsert *insert, const TupleTableSlot *slot)
{
	OutboxEvent event = {0};
	pg_uuid_t	id;
	Datum		value;

	if (get_value(insert, slot, OUTGOING_ID, &value))
		event.id = DatumGetUUIDP(value);
	if (get_value(insert, slot, OUTGOING_TOPIC, &value))
		event.topic = DatumGetTextPP(value);
	if (get_value(insert, slot, OUTGOING_KEY, &value))
		event.key = outbox_emit_key(DatumGetTextPP(value));
	if (get_value(insert, slot, OUTGOING_TYPE, &value))
		event.type = DatumGetTextPP(value);
	if (get_value(insert, slot, OUTGOING_PAYLOAD, &value))
		event.payload = outbox_emit_jsonb(DatumGetJsonbP(value));
	event.headers =
		outbox_event_headers_from_jsonb(get_value(insert, slot, OUTGOING_HEADERS, &value) ?
											DatumGetJsonbP(value) :
											NULL);
	event.content_type = outbox_emit_json_type(event.payload);
	outbox_emit_store(&event, &id);
}

/* One row; what it returns is what RETURNING shows, and counts as inserted. */
static TupleTableSlot *
insert_row(EState *estate, ResultRelInfo *result, TupleTableSlot *slot, TupleTableSlot *plan_slot)
{
	MemoryContext caller;

	outbox_emit_check_context();
	fill_id(result, estate, slot);
	/*
	 * The executor leaves a foreign table's constraints to the other side, and here there is none.
	 */
	if (RelationGetDescr(result->ri_RelationDesc)->constr != NULL)
		ExecConstraints(result, slot, estate);
	caller = MemoryContextSwitchTo(GetPerTupleMemoryContext(estate));
	emit_row(result->ri_FdwState, slot);
	MemoryContextSwitchTo(caller);
	return slot;
}

/* What is stored is not to be seen through the table: it has no row. */
static void
plan_empty_scan(PlannerInfo *root, RelOptInfo *relation, Oid table)
{
	mark_dummy_rel(relation);
}

/* outgoing_handler() returns fdw_handler; a scan is never planned, see plan_empty_scan */
Datum
outbox_outgoing_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = plan_empty_scan;
	routine->BeginForeignModify = begin_modify;
	routine->BeginForeignInsert = begin_insert;
	routine->ExecForeignInsert = insert_row;
	PG_RETURN_POINTER(routine);
}
