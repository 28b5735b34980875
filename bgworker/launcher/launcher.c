/* SPDX-License-Identifier: PostgreSQL
 *
 * launcher.c
 *	  Starts the relay of each database whose switch is on.
 *
 * Runs in the launcher, one static background worker connected to no database.
 * The switch (database setting outbox.relay) cannot be read from here, so a
 * worker is started to look at it (attach.c); it stays as the relay or exits.
 * Which databases to look at: all of them after a start, later those with
 * OutboxSlot.probe.  A running relay cannot see its switch change: it is
 * terminated, and the next one looks.
 *
 * The launcher sleeps on its latch without a time-out unless a back-off ends.  It may die and come
 * back while relays run: everything it must know is in shared memory, the handles only add the
 * workers that have not attached yet.
 */
#include "postgres.h"

#include <signal.h>

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
#include "bgworker/clock.h"
#include "src/compat.h"

#define RESTART_S	   5	  /* of the launcher itself */
#define MAX_PROBES	   2	  /* workers at once that have not looked at their switch yet */
#define LIMIT_LOG_MS   600000 /* the full list of workers is logged once in this time */
#define BACKOFF_MIN_MS 1000
#define BACKOFF_MAX_MS 60000

PGDLLEXPORT void outbox_launcher_main(Datum arg);

/* What the launcher alone knows of a slot. */
typedef struct Launch
{
	Oid						database;
	BackgroundWorkerHandle *handle;		/* NULL: none, or started by an earlier launcher */
	bool					running;	/* a worker was seen */
	bool					terminated; /* by us, so that its end is no failure */
	TimestampTz				not_before; /* end of the back-off */
} Launch;

/* What a look at a slot must know, copied under the lock. */
typedef struct SlotView
{
	Oid	 database;
	bool probe;
	bool answered;
	bool wanted;
	bool suspended;
	int	 worker_pid;
	int	 failures;
} SlotView;

static Launch	   launches[OUTBOX_MAX_DATABASES];
static List		  *pending = NIL; /* databases not looked at since the start */
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

/* Can a relay connect to it, as far as its row tells? */
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

static SlotView
view_slot(OutboxSlot *slot)
{
	SlotView view;

	LWLockAcquire(outbox_shared->lock, LW_SHARED);
	view.database = slot->database;
	view.probe = slot->probe;
	view.answered = slot->answered;
	view.wanted = slot->wanted;
	view.suspended = slot->suspended > 0;
	view.worker_pid = slot->worker_pid;
	view.failures = slot->failures;
	LWLockRelease(outbox_shared->lock);
	return view;
}

static void
forget_handle(Launch *launch)
{
	if (launch->handle != NULL)
		pfree(launch->handle);
	launch->handle = NULL;
}

static void
show_backoff(OutboxSlot *slot)
{
	SpinLockAcquire(&slot->mutex);
	slot->status.state = OUTBOX_RELAY_BACKOFF;
	SpinLockRelease(&slot->mutex);
}

/* Counts one more exit without progress; the next start waits 1, 2, 4 ... 60 s. */
static void
back_off(OutboxSlot *slot, Launch *launch)
{
	int failures;
	int delay;

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	failures = slot->database == launch->database ? ++slot->failures : 1;
	LWLockRelease(outbox_shared->lock);
	delay = failures > 6 ? BACKOFF_MAX_MS : Min(BACKOFF_MIN_MS << (failures - 1), BACKOFF_MAX_MS);
	launch->not_before = TimestampTzPlusMilliseconds(outbox_clock_now(), delay);
}

/*
 * The worker could not connect.  Sessions of a database that merely refuses new ones
 * go on with its slot until it is dropped.  False: a worker can connect now.
 */
static bool
settle_unreachable(OutboxSlot *slot, Oid database)
{
	if (has_database(database, true))
		return false;
	if (!has_database(database, false))
	{
		outbox_shmem_forget(database);
		return true;
	}
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database)
	{
		slot->answered = true;
		slot->wanted = false;
	}
	LWLockRelease(outbox_shared->lock);
	outbox_shmem_release(slot, database);
	return true;
}

/* The worker of a slot is gone: its end is an answer, our doing or a failure. */
static void
settle_end(OutboxSlot *slot, Launch *launch, const SlotView *view)
{
	bool planned = launch->terminated || view->suspended || view->probe;

	forget_handle(launch);
	launch->running = launch->terminated = false;
	launch->not_before = 0;

	if (view->answered && !view->wanted)
	{
		outbox_shmem_release(slot, view->database);
		return;
	}
	if (!view->answered)
	{
		if (settle_unreachable(slot, view->database))
			return;
		LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
		if (slot->database == view->database)
			slot->probe = true;
		LWLockRelease(outbox_shared->lock);
	}
	if (!planned)
	{
		back_off(slot, launch);
		show_backoff(slot);
	}
}

/* Takes the slot's request; false when there is none or a command forbids it. */
static bool
take_request(OutboxSlot *slot, Oid database)
{
	bool take;

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	take = slot->database == database && slot->suspended == 0 && slot->worker_pid == 0 &&
		(slot->probe || slot->wanted);
	if (take)
		slot->probe = slot->answered = false;
	LWLockRelease(outbox_shared->lock);
	return take;
}

static bool
register_relay(Oid database, BackgroundWorkerHandle **handle)
{
	BackgroundWorker worker;

	memset(&worker, 0, sizeof(worker));
	worker.bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker.bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_main_arg = ObjectIdGetDatum(database);
	worker.bgw_notify_pid = MyProcPid;
	strlcpy(worker.bgw_library_name, "outbox", BGW_MAXLEN);
	strlcpy(worker.bgw_function_name, "outbox_relay_main", BGW_MAXLEN);
	snprintf(worker.bgw_name, BGW_MAXLEN, "outbox relay of database %u", database);
	strlcpy(worker.bgw_type, "outbox relay", BGW_MAXLEN);
	return RegisterDynamicBackgroundWorker(&worker, handle);
}

static void
start_worker(OutboxSlot *slot, Launch *launch)
{
	if (!take_request(slot, launch->database))
		return;
	launch->not_before = 0;
	if (register_relay(launch->database, &launch->handle))
	{
		launch->running = true;
		return;
	}

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	slot->probe = true;
	LWLockRelease(outbox_shared->lock);
	back_off(slot, launch);
	outbox_shmem_report_error(slot, OUTBOX_ERROR_OF_RELAY,
							  "all background worker slots are taken: raise max_worker_processes");
	if (limit_logged_at != 0 &&
		!TimestampDifferenceExceeds(limit_logged_at, outbox_clock_now(), LIMIT_LOG_MS))
		return;
	limit_logged_at = outbox_clock_now();
	ereport(LOG,
			(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
			 errmsg("outbox launcher could not start the relay of database %u", launch->database),
			 errhint("All background worker slots are taken: raise max_worker_processes (now %d) "
					 "and restart the server.",
					 max_worker_processes)));
}

/* A running worker must look at its switch again: it goes, the next one looks. */
static void
end_worker(OutboxSlot *slot, Launch *launch)
{
	if (launch->terminated)
		return;
	launch->terminated = true;
	if (launch->handle != NULL)
	{
		TerminateBackgroundWorker(launch->handle);
		return;
	}
	/* Under the lock an attached pid is a living process (attach.c). */
	LWLockAcquire(outbox_shared->lock, LW_SHARED);
	if (slot->database == launch->database && slot->worker_pid != 0)
		kill(slot->worker_pid, SIGTERM);
	LWLockRelease(outbox_shared->lock);
}

/* May a worker be started now? */
static bool
is_due(const SlotView *view, const Launch *launch)
{
	if (!OidIsValid(view->database) || view->database != launch->database ||
		!(view->probe || view->wanted) || view->suspended)
		return false;
	/* Somebody who asks anew does not wait for the end of the back-off. */
	return view->failures == 0 || launch->not_before <= outbox_clock_now();
}

/* One look at a slot; `probes`: workers that have not looked at their switch yet. */
static void
tend_slot(OutboxSlot *slot, Launch *launch, int *probes)
{
	SlotView view;
	pid_t	 pid;

	/* First the handle: what a worker that is gone has left is then final. */
	if (launch->handle != NULL && GetBackgroundWorkerPid(launch->handle, &pid) == BGWH_STOPPED)
		forget_handle(launch);

	view = view_slot(slot);
	if (view.database != launch->database)
	{
		forget_handle(launch);
		memset(launch, 0, sizeof(*launch));
		launch->database = view.database;
	}
	if (!OidIsValid(view.database))
		return;

	if (launch->handle != NULL || view.worker_pid != 0)
	{
		launch->running = true;
		if (view.probe && !view.suspended && view.answered)
			end_worker(slot, launch);
		else if (!view.answered && !view.suspended) /* else it may wait for that command's end */
			(*probes)++;
		return;
	}
	if (launch->running)
	{
		settle_end(slot, launch, &view);
		view = view_slot(slot);
	}
	if (*probes < MAX_PROBES && is_due(&view, launch))
	{
		start_worker(slot, launch);
		if (launch->running)
			(*probes)++;
	}
}

/* Marks databases of the start-up list, a few at a time. */
static void
mark_pending(int probes)
{
	while (pending != NIL && probes < MAX_PROBES)
	{
		Oid			database = linitial_oid(pending);
		OutboxSlot *slot = outbox_shmem_slot_of(database, true);

		if (slot == NULL)
		{
			if (!slots_logged)
				ereport(LOG,
						(errmsg("outbox uses all its %d slots for databases", OUTBOX_MAX_DATABASES),
						 errdetail("%d databases were not looked at for a relay.",
								   list_length(pending))));
			slots_logged = true;
			return;
		}
		LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
		if (slot->database == database)
		{
			/* A relay that outlived the last launcher goes on undisturbed. */
			if (slot->worker_pid == 0)
				slot->probe = true;
			pending = list_delete_first(pending);
			probes++;
		}
		LWLockRelease(outbox_shared->lock);
	}
}

/* Tends all slots; returns ms to the next end of a back-off, -1 = none. */
static long
tend_slots(void)
{
	TimestampTz now;
	long		timeout = -1;
	int			probes = 0;

	for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
		tend_slot(&outbox_shared->slots[i], &launches[i], &probes);
	if (pending != NIL && probes < MAX_PROBES)
	{
		mark_pending(probes);
		for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
			tend_slot(&outbox_shared->slots[i], &launches[i], &probes);
	}

	now = outbox_clock_now();
	for (int i = 0; i < OUTBOX_MAX_DATABASES; i++)
	{
		const Launch *launch = &launches[i];

		if (!launch->running && launch->not_before > now)
		{
			long left = TimestampDifferenceMilliseconds(now, launch->not_before) + 1;

			timeout = timeout < 0 ? left : Min(timeout, left);
		}
	}
	return timeout;
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
	outbox_marker_settle();
	pending = list_databases(InvalidOid, true);

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
		timeout = tend_slots();
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_EXIT_ON_PM_DEATH | (timeout >= 0 ? WL_TIMEOUT : 0),
						 timeout, PG_WAIT_EXTENSION);
	}
}
