/* SPDX-License-Identifier: PostgreSQL
 *
 * attach.c
 *	  A relay worker takes over its slot and looks at its database's switch.
 *
 * Runs in the relay, which goes away again where it is not wanted.  What that means to the
 * launcher and to commands is told by bgworker/launcher/README.md.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/transam.h"
#include "access/xact.h"
#include "catalog/indexing.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "attach.h"
#include "batch_log.h"
#include "bgworker/events/measure.h"
#include "bgworker/owner.h"
#include "bgworker/session.h"
#include "src/encoding.h"
#include "src/guc.h"
#include "src/worker.h"

#define LOCK_WAIT "60s"

/* The place of this process, from the launcher. */
static OutboxWorkerPlace own;

/* A process that has attached is alive until its place is given back. */
static void
detach_worker(int code, Datum arg)
{
	OutboxSlot *slot = own.slot;

	pg_atomic_write_u32(&slot->relay_proc, OUTBOX_NO_PROC);
	SpinLockAcquire(&slot->mutex);
	slot->adopt = OUTBOX_ADOPT_NONE;
	slot->status.state = OUTBOX_RELAY_STOPPED;
	slot->status.pid = 0;
	slot->status.sender_pid = 0;
	slot->status.hold_reason[0] = '\0';
	SpinLockRelease(&slot->mutex);

	outbox_worker_detach(&own);
}

static bool
attach_worker(OutboxSlot *slot)
{
	memcpy(&own, MyBgworkerEntry->bgw_extra, sizeof(own));
	if (own.slot != slot || !outbox_worker_attach(&own))
		return false;
	before_shmem_exit(detach_worker, (Datum) 0);
	return true;
}

static bool
has_extension(void)
{
	bool found;

	StartTransactionCommand();
	found = OidIsValid(get_extension_oid("outbox", true));
	CommitTransactionCommand();
	return found;
}

/* Keeps the slot, so that its status can be seen. */
static void
keep_slot(OutboxSlot *slot)
{
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	slot->used = true;
	LWLockRelease(outbox_shared->lock);
}

/* The version of the extension's objects, in the current context; NULL: it is not there. */
static char *
read_version(void)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Datum		value = 0;
	bool		isnull = true;
	char	   *version;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("outbox"));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(extensions),
							 &isnull);
	version = isnull ? NULL : TextDatumGetCString(value);
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	return version;
}

/*
 * After an installation of new files the library is of another version than the objects of the
 * database until ALTER EXTENSION UPDATE: then no relay runs.  No lock on an object of the extension
 * is waited for: few probes run at a time.
 */
static bool
check_version(OutboxSlot *slot)
{
	char *version;
	bool  same;

	StartTransactionCommand();
	outbox_encoding_prepare(); /* the relay tells errors outside of transactions, too */
	version = read_version();
	same = version != NULL && strcmp(version, OUTBOX_VERSION) == 0;
	if (!same && version != NULL)
	{
		char *text = psprintf("the extension's objects are of version %s, its library is of "
							  "version " OUTBOX_VERSION,
							  version);

		ereport(LOG,
				(errmsg("outbox relay of database \"%s\" does not run: %s",
						get_database_name(MyDatabaseId), text),
				 errhint("Install the files of one version, restart the server if the library "
						 "changed, and run ALTER EXTENSION outbox UPDATE in the database.")));
		outbox_shmem_report_error(slot, OUTBOX_ERROR_OF_RELAY, text);
		keep_slot(slot);
	}
	CommitTransactionCommand();
	return same;
}

/* No relay runs here; one that did would hold. */
static bool
owns_objects(OutboxSlot *slot)
{
	char *foreign = outbox_owner_look(true);

	if (foreign == NULL)
		return true;
	ereport(LOG,
			(errmsg("outbox does not look for events in database %u: %s", MyDatabaseId, foreign)));
	outbox_shmem_report_error(slot, OUTBOX_ERROR_OF_RELAY, foreign);
	keep_slot(slot);
	return false;
}

/* No relay runs here: are there events after the last batch all the same? */
static void
note_waiting(OutboxSlot *slot)
{
	uint64 none = 0;
	bool   isnull = true;
	Datum  oldest = 0;

	outbox_session_begin();
	if (SPI_execute("SELECT created_at FROM outbox.event WHERE txid >= coalesce("
					"(SELECT pg_snapshot_xmax(upper) FROM outbox.batch ORDER BY batch_no DESC "
					"LIMIT 1), '3')"
					" ORDER BY txid LIMIT 1",
					true, 1) == SPI_OK_SELECT &&
		SPI_processed == 1)
		oldest = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &isnull);
	if (!isnull)
	{
		keep_slot(slot);
		(void) pg_atomic_compare_exchange_u64(&slot->waiting_since, &none,
											  (uint64) DatumGetTimestampTz(oldest));
	}
	outbox_session_end();
}

/* What is stored here waits for a relay; outbox.max_backlog, if set, holds all the same. */
static void
measure_without_relay(OutboxSlot *slot)
{
	uint64		   none[1];
	OutboxBatchRow last = {.range.lower = {.xmax = FirstNormalTransactionId, .xip = none},
						   .range.upper = {.xmax = FirstNormalTransactionId, .xip = none}};

	(void) outbox_batch_log_load(-1, TopMemoryContext, &last);
	slot->measured = outbox_measure_up_to(slot, &last.range, (int64) outbox_guc_max_backlog * 1024);
}

bool
outbox_relay_attach(OutboxSlot *slot)
{
	bool			  exists;
	bool			  wanted;
	OutboxWorkerState state;

	if (slot == NULL || !attach_worker(slot))
		return false;

	exists = has_extension();
	wanted = exists && outbox_guc_relay && check_version(slot);

	state = outbox_worker_answer(&own, wanted);
	if (!exists || outbox_guc_relay || state != OUTBOX_WORKER_ENDING)
		return state == OUTBOX_WORKER_RUNNING;
	/* whoever locks the extension's objects for longer goes without the answers */
	SetConfigOption("lock_timeout", LOCK_WAIT, PGC_SUSET, PGC_S_OVERRIDE);
	if (!owns_objects(slot))
		return false;
	note_waiting(slot);
	if (!slot->measured && outbox_guc_max_backlog > 0)
		measure_without_relay(slot);
	return false;
}

void
outbox_relay_progressed(OutboxSlot *slot)
{
	outbox_shmem_recovered(slot, OUTBOX_ERROR_OF_RELAY);
	/* Only this process resets them while it lives; a stale read comes again. */
	if (pg_atomic_read_u64(&slot->waiting_since) != 0)
		pg_atomic_write_u64(&slot->waiting_since, 0);
	outbox_worker_progressed(&own);
}
