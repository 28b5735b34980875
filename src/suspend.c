/* SPDX-License-Identifier: PostgreSQL
 *
 * suspend.c
 *	  Relays that are kept out of a command's way, and databases to look at, until the end of
 *	  a transaction.
 *
 * Runs in the backend that executes the command.  Commit, error and FATAL alike lift a suspension
 * and let the launcher look again; so does the rollback of the savepoint it was made in.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "portability/instr_time.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "utils/memutils.h"

#include "suspend.h"
#include "worker.h"

#define WORKER_EXIT_MS 10000 /* of all workers; each exits within 5 s */
#define WORKER_POLL_MS 10

struct OutboxSuspension
{
	OutboxSlot *slot;
	Oid			database;
	int			level; /* nesting level of the transaction it ends with */
	bool		asked; /* a relay was there, or somebody asked for one */
	bool		forget_at_commit;
	bool		reset_at_commit;
};

/* A database to look at when the transaction commits. */
typedef struct Look
{
	Oid database;
	int level; /* as a suspension's */
} Look;

/* Of the current transaction; in TopTransactionContext. */
static List *suspensions = NIL; /* OutboxSuspension * */
static List *looks = NIL;		/* Look *, one a database */
static int	 over_commit = 0;	/* nesting level of the transaction that asked for it; 0 = none */
static bool	 callbacks_registered = false;

static void
reset_slot(OutboxSlot *slot, Oid database)
{
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database)
	{
		pg_atomic_write_u32(&slot->leaf, 0);
		pg_atomic_write_u64(&slot->backlog, 0);
		pg_atomic_write_u64(&slot->waiting_since, 0);
		slot->measured = false;
		SpinLockAcquire(&slot->mutex);
		memset(&slot->status, 0, sizeof(slot->status));
		slot->status.delivered_batch = -1;
		SpinLockRelease(&slot->mutex);
	}
	LWLockRelease(outbox_shared->lock);
}

static void
request_looks(bool committed)
{
	ListCell *cell;

	foreach(cell, looks)
	{
		Oid			database = ((Look *) lfirst(cell))->database;
		OutboxSlot *slot;

		if (committed)
		{
			(void) outbox_worker_ask(database); /* outbox_suspend_look_at_commit has warned */
			continue;
		}
		slot = outbox_shmem_slot_of(database, false);
		if (slot != NULL)
			outbox_shmem_release(slot, database);
	}
	looks = NIL;
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

static void
end_suspension(OutboxSuspension *suspension, bool committed)
{
	if (committed && suspension->reset_at_commit)
		reset_slot(suspension->slot, suspension->database);
	if (committed && suspension->forget_at_commit)
		outbox_shmem_forget(suspension->database);
	else
	{
		outbox_worker_resume(suspension->slot, suspension->database);
		outbox_shmem_release(suspension->slot, suspension->database);
	}
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

/* A suspension does not outlast its session, so a prepared transaction cannot have one. */
static void
refuse_prepare(void)
{
	ListCell *cell;
	bool	  refuse = looks != NIL;

	foreach(cell, suspensions)
		refuse |= ((OutboxSuspension *) lfirst(cell))->asked;
	if (refuse)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has started or stopped the relay"),
				 errdetail("So do commands that need a relay's database alone, and those that "
						   "create, update or drop the extension.")));
}

static void
end_transaction(XactEvent event, void *arg)
{
	ListCell *cell;

	if (event == XACT_EVENT_PRE_PREPARE)
		refuse_prepare();
	if (event == XACT_EVENT_PRE_COMMIT && over_commit > 0)
		(void) outbox_suspend_relay(MyDatabaseId, "ALTER EXTENSION");
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	over_commit = 0;
	if (looks != NIL)
		request_looks(event == XACT_EVENT_COMMIT);
	foreach(cell, suspensions)
		end_suspension(lfirst(cell), event == XACT_EVENT_COMMIT);
	suspensions = NIL;
}

/* A savepoint's looks become its parent's, or end with it. */
static void
end_savepoint_looks(int level, bool committed)
{
	ListCell *cell;

	if (over_commit >= level)
		over_commit = committed ? level - 1 : 0;
	foreach(cell, looks)
	{
		Look	   *look = lfirst(cell);
		OutboxSlot *slot;

		if (look->level < level)
			continue;
		look->level = level - 1;
		if (committed)
			continue;
		slot = outbox_shmem_slot_of(look->database, false);
		if (slot != NULL)
			outbox_shmem_release(slot, look->database);
		looks = foreach_delete_current(looks, cell);
	}
}

/* The same for its suspensions. */
static void
end_savepoint(SubXactEvent event, SubTransactionId own, SubTransactionId parent, void *arg)
{
	int		  level = GetCurrentTransactionNestLevel();
	ListCell *cell;

	if (event != SUBXACT_EVENT_COMMIT_SUB && event != SUBXACT_EVENT_ABORT_SUB)
		return;
	end_savepoint_looks(level, event == SUBXACT_EVENT_COMMIT_SUB);
	foreach(cell, suspensions)
	{
		OutboxSuspension *suspension = lfirst(cell);

		if (suspension->level < level)
			continue;
		if (event == SUBXACT_EVENT_COMMIT_SUB)
			suspension->level = level - 1;
		else
		{
			end_suspension(suspension, false);
			suspensions = foreach_delete_current(suspensions, cell);
		}
	}
}

static void
register_callbacks(void)
{
	if (callbacks_registered)
		return;
	RegisterXactCallback(end_transaction, NULL);
	RegisterSubXactCallback(end_savepoint, NULL);
	callbacks_registered = true;
}

static bool
is_one_alive(const OutboxWorkersKept *kept)
{
	for (int i = 0; i < kept->count; i++)
		if (BackendPidGetProc(kept->pids[i]) != NULL)
			return true;
	return false;
}

static void
wait_for_exit(const OutboxWorkersKept *kept)
{
	instr_time begun;
	instr_time waited;

	INSTR_TIME_SET_CURRENT(begun);
	while (is_one_alive(kept))
	{
		INSTR_TIME_SET_CURRENT(waited);
		INSTR_TIME_SUBTRACT(waited, begun);
		if (INSTR_TIME_GET_MILLISEC(waited) >= WORKER_EXIT_MS)
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, WORKER_POLL_MS,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

OutboxSuspension *
outbox_suspend_relay(Oid database, const char *command)
{
	OutboxSuspension *suspension;
	OutboxSlot		 *slot = outbox_shmem_slot_of(database, true);
	OutboxWorkersKept kept;
	MemoryContext	  old;

	if (slot == NULL)
		return NULL; /* not loaded at start, or all slots taken */
	register_callbacks();
	old = MemoryContextSwitchTo(TopTransactionContext);
	suspension = palloc0(sizeof(*suspension));
	suspension->slot = slot;
	suspension->database = database;
	suspension->level = GetCurrentTransactionNestLevel();
	suspensions = lappend(suspensions, suspension);
	MemoryContextSwitchTo(old);
	if (!outbox_worker_suspend(slot, database, command, &kept))
	{
		suspensions = list_delete_ptr(suspensions, suspension);
		return NULL;
	}
	suspension->asked = kept.asked;
	wait_for_exit(&kept);
	return suspension;
}

void
outbox_suspend_end_slot(OutboxSuspension *suspension, bool forget)
{
	if (suspension == NULL)
		return;
	if (forget)
		suspension->forget_at_commit = true;
	else
		suspension->reset_at_commit = true;
}

void
outbox_suspend_lift(OutboxSuspension *suspension)
{
	if (suspension == NULL)
		return;
	suspensions = list_delete_ptr(suspensions, suspension);
	end_suspension(suspension, false);
}

void
outbox_suspend_over_commit(void)
{
	if (outbox_shared == NULL)
		return;
	register_callbacks();
	if (over_commit == 0)
		over_commit = GetCurrentTransactionNestLevel();
}

void
outbox_suspend_look_at_commit(Oid database, bool warn)
{
	MemoryContext old;
	ListCell	 *cell;
	Look		 *look;

	if (outbox_shared == NULL || !OidIsValid(database))
		return;
	if (outbox_shmem_slot_of(database, true) == NULL && warn)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("outbox serves at most %d databases of a server", OUTBOX_MAX_DATABASES),
				 errdetail("The relay of this one is not started.")));
	/* every look's level is one that is open, so this one ends no later */
	foreach(cell, looks)
		if (((Look *) lfirst(cell))->database == database)
			return;
	register_callbacks();
	old = MemoryContextSwitchTo(TopTransactionContext);
	look = palloc(sizeof(*look));
	look->database = database;
	look->level = GetCurrentTransactionNestLevel();
	looks = lappend(looks, look);
	MemoryContextSwitchTo(old);
}
