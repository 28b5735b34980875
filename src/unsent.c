/* SPDX-License-Identifier: PostgreSQL
 *
 * unsent.c
 *	  What goes unsent with a dropped extension or database, and outbox.drop_unsent.
 *
 * Runs in the backend that executes the command.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "backlog.h"
#include "guc.h"
#include "unsent.h"

/*
 * LIMIT: a backlog of any size costs a second at most.  OFFSET 0: as in outbox.unsent, whatever the
 * planner takes it for.
 */
static const char count_events[] =
	"SELECT pg_catalog.count(*) FROM ("
	"  (SELECT FROM outbox.delivered_batch d CROSS JOIN LATERAL (SELECT FROM outbox.event e"
	"      WHERE e.txid OPERATOR(pg_catalog.>=) pg_catalog.pg_snapshot_xmax(d.upper)"
	"        AND (e.txid OPERATOR(pg_catalog.=) d.upper_txid AND e.seq OPERATOR(pg_catalog.<=) "
	"d.upper_seq) IS NOT TRUE OFFSET 0) w LIMIT $1)"
	"  UNION ALL"
	"  (SELECT FROM outbox.delivered_batch d CROSS JOIN LATERAL "
	"pg_catalog.pg_snapshot_xip(d.upper) x(txid)"
	"      CROSS JOIN LATERAL (SELECT FROM outbox.event e WHERE e.txid OPERATOR(pg_catalog.=) "
	"x.txid"
	"        AND (e.txid OPERATOR(pg_catalog.=) d.upper_txid AND e.seq OPERATOR(pg_catalog.<=) "
	"d.upper_seq) IS NOT TRUE OFFSET 0) w LIMIT $1)) u";

/* What topic holds have left out of delivered batches and not copied; copies are events. */
static const char count_held[] =
	"SELECT least($1, (SELECT coalesce(pg_catalog.sum(b.events), 0)::pg_catalog.int8"
	"    FROM outbox.delivered_batch d CROSS JOIN outbox.topic_hold h"
	"      JOIN outbox.topic_hold_batch b ON b.hold OPERATOR(pg_catalog.=) h.id"
	"    WHERE h.state OPERATOR(pg_catalog.<>) 'ended'"
	"      AND b.batch_no OPERATOR(pg_catalog.<=) d.batch_no)"
	"  OPERATOR(pg_catalog.-) (SELECT coalesce(pg_catalog.sum(c.copies), 0)::pg_catalog.int8"
	"    FROM outbox.topic_hold h JOIN outbox.topic_hold_copy c"
	"      ON c.hold OPERATOR(pg_catalog.=) h.id"
	"    WHERE h.state OPERATOR(pg_catalog.<>) 'ended' AND c.refused_batch IS NULL))";

static const char count_letters[] =
	"SELECT pg_catalog.count(*) FROM (SELECT FROM outbox.dead_letter d"
	"  WHERE d.origin OPERATOR(pg_catalog.=) 'relay' AND d.state OPERATOR(pg_catalog.=) ANY "
	"('{held,open,releasing}') LIMIT $1) l";

Oid
outbox_unsent_extension_owner(Oid extension)
{
	Relation	relation = table_open(ExtensionRelationId, AccessShareLock);
	Oid			owner = InvalidOid;
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(relation, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(relation, AccessShareLock);
	return owner;
}

static int64
count(const char *query)
{
	Oid	  types[] = {INT8OID};
	Datum values[] = {Int64GetDatum(OUTBOX_UNSENT_MOST + 1)};
	bool  isnull;

	if (SPI_execute_with_args(query, 1, types, values, NULL, true, 0) != SPI_OK_SELECT ||
		SPI_processed != 1)
		elog(ERROR, "could not count what is unsent");
	return DatumGetInt64(SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull));
}

static void
set_here(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
}

/* In the subtransaction whose end takes the user and the settings back. */
static void
count_as(Oid owner, OutboxUnsent *unsent)
{
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION | SECURITY_NOFORCE_RLS);
	set_here("search_path", "pg_catalog, pg_temp");
	set_here("row_security", "off");
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "could not connect to SPI");
	PushActiveSnapshot(GetTransactionSnapshot());
	unsent->events = count(count_events) + count(count_held);
	unsent->letters = count(count_letters);
	unsent->known = true;
	PopActiveSnapshot();
	SPI_finish();
}

void
outbox_unsent_count(Oid extension, OutboxUnsent *unsent)
{
	MemoryContext caller = CurrentMemoryContext;
	ResourceOwner resources = CurrentResourceOwner;
	Oid			  owner = outbox_unsent_extension_owner(extension);
	ErrorData	 *error = NULL;

	memset(unsent, 0, sizeof(*unsent));
	BeginInternalSubTransaction(NULL);
	PG_TRY();
	{
		count_as(owner, unsent);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		error = CopyErrorData();
		FlushErrorState();
	}
	PG_END_TRY();
	/*
	 * Rolled back in any case: a lock kept would be raised by the drop, against another session's.
	 */
	RollbackAndReleaseCurrentSubTransaction();
	MemoryContextSwitchTo(caller);
	CurrentResourceOwner = resources;
	if (error == NULL)
		return;
	unsent->known = false;
	unsent->problem = error->message;
	/* the drop would wait for the same lock, and has been told to end all the same */
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE)
		ReThrowError(error);
}

/* "3", or "more than 100000" */
static char *
format_number(int64 number)
{
	return number > OUTBOX_UNSENT_MOST ? psprintf("more than %d", OUTBOX_UNSENT_MOST) :
										 psprintf(INT64_FORMAT, number);
}

void
outbox_unsent_tell_extension(const OutboxUnsent *unsent)
{
	bool refuse = outbox_guc_drop_unsent == OUTBOX_DROP_REFUSE;

	if (!unsent->known)
		ereport(WARNING,
				(errmsg("extension outbox is dropped, its unsent events could not be counted"),
				 errdetail("%s", unsent->problem)));
	else if (unsent->events > 0 || unsent->letters > 0)
		ereport(refuse ? ERROR : WARNING,
				(errcode(refuse ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_WARNING),
				 refuse ? errmsg("cannot drop extension outbox with %s unsent events",
								 format_number(unsent->events)) :
						  errmsg("extension outbox is dropped with %s unsent events",
								 format_number(unsent->events)),
				 errdetail("%s events are not known to be delivered to Kafka, %s events wait in "
						   "dead letters of the relay.",
						   format_number(unsent->events), format_number(unsent->letters)),
				 refuse ? errhint("Let the relay send them first, or SET outbox.drop_unsent = warn "
								  "to lose them.") :
						  0));
}

char *
outbox_unsent_of_database(Oid database)
{
	OutboxSlot *slot = outbox_shmem_slot_of(database, false);
	int64 bytes = slot == NULL ? 0 : outbox_backlog_bytes(slot) + outbox_backlog_held_bytes(slot);
	TimestampTz since = slot == NULL ? 0 : (TimestampTz) pg_atomic_read_u64(&slot->waiting_since);

	if (bytes > 0)
		return psprintf(INT64_FORMAT " bytes of events are not known to be delivered to Kafka.",
						bytes);
	if (since != 0)
		return psprintf("Events wait without a relay since %s.", timestamptz_to_str(since));
	return NULL;
}

void
outbox_unsent_tell_database(const char *name, const char *lost)
{
	bool refuse = outbox_guc_drop_unsent == OUTBOX_DROP_REFUSE;

	ereport(refuse ? ERROR : WARNING,
			(errcode(refuse ? ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE : ERRCODE_WARNING),
			 refuse ? errmsg("cannot drop database \"%s\" with unsent events", name) :
					  errmsg("database \"%s\" is dropped with unsent events", name),
			 errdetail("%s", lost),
			 refuse ? errhint("Let its relay send them first, or SET outbox.drop_unsent = warn to "
							  "lose them.") :
					  0));
}
