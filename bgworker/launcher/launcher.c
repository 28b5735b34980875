/* SPDX-License-Identifier: PostgreSQL
 *
 * launcher.c
 *	  Starts the workers of each database whose switch is on.
 *
 * Runs in the launcher, one static background worker connected to no database.
 * The switch (a database setting) cannot be read from here, so a worker is
 * started to look at it; it stays or exits.  Which databases to look at: all
 * of them after a start, later those that are asked for (src/worker.h).
 *
 * The launcher sleeps on its latch without a time-out unless a back-off ends.
 * It may die and come back while workers run: their states are in shared
 * memory, the handles only add the workers that have not attached yet.
 */
#include "postgres.h"

#include "access/heapam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "launcher.h"
#include "marker.h"
#include "src/clock.h"
#include "src/compat.h"
#include "src/worker.h"

#define RESTART_S	 5		/* of the launcher itself */
#define MOST_LOOKING 2		/* workers at once that have not looked at their switch yet */
#define LIMIT_LOG_MS 600000 /* the full list of workers is logged once in this time */

#define LAUNCHES (OUTBOX_MAX_DATABASES * OUTBOX_KINDS * OUTBOX_MOST_SHARDS)

PGDLLEXPORT void outbox_launcher_main(Datum arg);

/* What the launcher alone knows of a worker. */
typedef struct Launch
{
	OutboxWorkerPlace		place;
	BackgroundWorkerHandle *handle;		/* NULL: none, or started by an earlier launcher */
	TimestampTz				not_before; /* end of the back-off, in state BACKOFF */
} Launch;

static Launch	   launches[LAUNCHES];
static int		   launch_count = 0;
static List		  *pending = NIL; /* databases without a slot at the start, not looked at since */
static TimestampTz limit_logged_at = 0;
static bool		   slots_logged = false;

void
outbox_launcher_register(void)
{
	BackgroundWorker worker;

	if (IsBinaryUpgrade)
		return;
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = RESTART_S;
	strlcpy(worker.bgw_library_name, "outbox", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "outbox_launcher_main", BGW_MAXLEN);
	strlcpy(worker.bgw_name, "outbox launcher", BGW_MAXLEN);
	strlcpy(worker.bgw_type, "outbox launcher", BGW_MAXLEN);
	RegisterBackgroundWorker(&worker);
}

/* ------------------------------------------------------------ databases */

/* Can a worker connect to it, as far as its row tells? */
static bool
is_connectable(Form_pg_database database)
{
	return database->datallowconn && strcmp(NameStr(database->datname), "template0") != 0;
}

/*
 * The databases of the server, or `only` if it is one of them; without those that take no
 * connections if `connectable`.  Own transaction; the list lives in TopMemoryContext.
 */
static List *
list_databases(Oid only, bool connectable)
{
	List		 *databases = NIL;
	Relation	  relation;
	TableScanDesc scan;
	HeapTuple	  tuple;

	StartTransactionCommand();
	(void) GetTransactionSnapshot();
	relation = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(relation, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext	 old;

		if ((connectable && !is_connectable(database)) ||
			(OidIsValid(only) && database->oid != only))
			continue;
		old = MemoryContextSwitchTo(TopMemoryContext);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(relation, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(TopMemoryContext);
	return databases;
}

static bool
has_database(Oid database, bool connectable)
{
	List *found = list_databases(database, connectable);
	bool  result = found != NIL;

	list_free(found);
	return result;
}

/* ---------------------------------------------------- a worker that went */

static void
forget_handle(Launch *launch)
{
	if (launch->handle != NULL)
		pfree(launch->handle);
	launch->handle = NULL;
}

/* A copy of the worker; false: no database has the slot. */
static bool
read_worker(Launch *launch, OutboxWorker *worker)
{
	while (!outbox_worker_read(&launch->place, worker))
	{
		/* of another database: what is known here is not about that one */
		forget_handle(launch);
		launch->place.database = launch->place.slot->database;
	}
	return OidIsValid(launch->place.database);
}

static void
show_backoff(OutboxSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->status.state = OUTBOX_RELAY_BACKOFF;
	SpinLockRelease(&slot->mutex);
}

static void
begin_backoff(Launch *launch, const OutboxWorker *worker)
{
	launch->not_before =
		TimestampTzPlusMilliseconds(outbox_clock_now(), outbox_launch_backoff_ms(worker->failures));
}

/*
 * A worker that never told its answer could perhaps not connect.  Sessions of a database
 * that merely refuses new ones go on with its slot until it is dropped.
 */
static void
follow_up_gone(Launch *launch, OutboxWorkerState before)
{
	const OutboxWorkerPlace *place = &launch->place;
	OutboxWorker			 worker;
	bool					 reachable;

	reachable = before != OUTBOX_WORKER_LOOKING || has_database(place->database, true);
	if (!reachable && !has_database(place->database, false))
	{
		outbox_shmem_forget(place->database);
		return;
	}
	if (!outbox_worker_gone(place, reachable, &worker))
		return;
	if (worker.state == OUTBOX_WORKER_ABSENT)
		outbox_shmem_release(place->slot, place->database);
	else if (worker.state == OUTBOX_WORKER_BACKOFF)
	{
		begin_backoff(launch, &worker);
		show_backoff(place->slot);
	}
}

/* Finds out what the launcher is not told: that a worker is gone, that a back-off is over. */
static void
follow_up(Launch *launch)
{
	OutboxWorker worker;
	pid_t		 pid;

	/* First the handle: what a worker that is gone has left is then final. */
	if (launch->handle != NULL && GetBackgroundWorkerPid(launch->handle, &pid) == BGWH_STOPPED)
		forget_handle(launch);
	if (!read_worker(launch, &worker) || launch->handle != NULL || worker.pid != 0)
		return;
	switch (worker.state)
	{
		case OUTBOX_WORKER_LOOKING:
		case OUTBOX_WORKER_RUNNING:
		case OUTBOX_WORKER_ENDING:
			follow_up_gone(launch, worker.state);
			break;
		case OUTBOX_WORKER_BACKOFF:
			if (launch->not_before <= outbox_clock_now())
				outbox_worker_retry(&launch->place);
			break;
		default:
			break;
	}
}

/* ----------------------------------------------------- a worker to start */

static bool
register_worker(const OutboxWorkerPlace *place, BackgroundWorkerHandle **handle)
{
	const OutboxWorkerKind *kind = &outbox_worker_kinds[place->kind];
	BackgroundWorker		worker;

	StaticAssertStmt(sizeof(*place) <= BGW_EXTRALEN, "a worker is told its place");
	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(place->database);
	memcpy(worker.bgw_extra, place, sizeof(*place));
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "outbox", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, kind->entry, BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "outbox %s of database %u", kind->name, place->database);
	snprintf(worker.bgw_type, BGW_MAXLEN, "outbox %s", kind->name);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static void
tell_limit(const OutboxWorkerPlace *place)
{
	outbox_shmem_report_error(place->slot, OUTBOX_ERROR_OF_RELAY,
							  "all background worker slots are taken: raise max_worker_processes");
	if (limit_logged_at != 0 &&
		!TimestampDifferenceExceeds(limit_logged_at, outbox_clock_now(), LIMIT_LOG_MS))
		return;
	limit_logged_at = outbox_clock_now();
	ereport(LOG,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("outbox launcher could not start the %s of database %u",
					outbox_worker_kinds[place->kind].name, place->database),
			 errhint("All background worker slots are taken: raise max_worker_processes (now %d) "
					 "and restart the server.",
					 max_worker_processes)));
}

/* True: one more worker looks at its switch. */
static bool
start_if_asked(Launch *launch)
{
	OutboxWorker worker;

	if (!read_worker(launch, &worker) || launch->handle != NULL ||
		!outbox_worker_start(&launch->place))
		return false;
	if (register_worker(&launch->place, &launch->handle))
		return true;
	if (outbox_worker_gone(&launch->place, true, &worker) && worker.state == OUTBOX_WORKER_BACKOFF)
		begin_backoff(launch, &worker);
	tell_limit(&launch->place);
	return false;
}

/* Workers in one of two states. */
static int
count_in(OutboxWorkerState one, OutboxWorkerState other)
{
	int count = 0;

	for (int i = 0; i < launch_count; i++)
	{
		OutboxWorker worker;

		if (read_worker(&launches[i], &worker) && (worker.state == one || worker.state == other))
			count++;
	}
	return count;
}

/* Asks for workers of databases of the start-up list, a few at a time. */
static void
ask_pending(void)
{
	int asked = pending == NIL ? 0 : count_in(OUTBOX_WORKER_ASKED, OUTBOX_WORKER_LOOKING);

	for (; pending != NIL && asked < MOST_LOOKING; asked++)
	{
		if (!outbox_worker_ask_missing(linitial_oid(pending)))
		{
			if (!slots_logged)
				ereport(LOG,
						(errmsg("outbox uses all its %d slots for databases", OUTBOX_MAX_DATABASES),
						 errdetail("%d databases were not looked at for a relay.",
								   list_length(pending))));
			slots_logged = true;
			return;
		}
		pending = list_delete_first(pending);
	}
}

/* ----------------------------------------------------------------- loop */

/* ms to the next end of a back-off, -1 = there is none. */
static long
find_timeout(void)
{
	TimestampTz now = outbox_clock_now();
	long		timeout = -1;

	for (int i = 0; i < launch_count; i++)
	{
		OutboxWorker worker;

		if (read_worker(&launches[i], &worker) && worker.state == OUTBOX_WORKER_BACKOFF)
		{
			long left = TimestampDifferenceMilliseconds(now, launches[i].not_before) + 1;

			timeout = timeout < 0 ? left : Min(timeout, left);
		}
	}
	return timeout;
}

/* One look at all workers; returns ms to the next, -1 = when the latch is set. */
static long
tend_workers(void)
{
	int looking;

	for (int i = 0; i < launch_count; i++)
		follow_up(&launches[i]);
	ask_pending();
	looking = count_in(OUTBOX_WORKER_LOOKING, OUTBOX_WORKER_LOOKING);
	for (int i = 0; i < launch_count && looking < MOST_LOOKING; i++)
		looking += start_if_asked(&launches[i]);
	return find_timeout();
}

/*
 * After the server's start or an earlier launcher's end: all databases are looked at but
 * those whose workers have outlived that launcher.
 */
static void
begin(void)
{
	List	 *databases = list_databases(InvalidOid, true);
	ListCell *cell;

	for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
		OUTBOX_EACH_WORKER(kind, shard)
		{
			OutboxWorkerPlace *place = &launches[launch_count++].place;

			place->slot = &outbox_shared->slots[i];
			place->kind = kind;
			place->shard = shard;
		}
	foreach(cell, databases)
	{
		if (outbox_shmem_slot_of(lfirst_oid(cell), false) != NULL)
			(void) outbox_worker_ask_missing(lfirst_oid(cell));
		else
			pending = lappend_oid(pending, lfirst_oid(cell));
	}
	list_free(databases);
}

static void
retire_launcher(int code, Datum arg)
{
	pg_atomic_write_u32(&outbox_shared->launcher_proc, OUTBOX_NO_PROC);
}

void
outbox_launcher_main(Datum arg)
{
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);
	pgstat_report_appname("outbox launcher");

	before_shmem_exit(retire_launcher, (Datum) 0);
	pg_atomic_write_u32(&outbox_shared->launcher_proc, outbox_compat_proc_number());
	MemoryContextSwitchTo(TopMemoryContext);
	outbox_marker_ensure();
	begin();

	for (;;)
	{
		long timeout;

		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		timeout = tend_workers();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
	}
}
