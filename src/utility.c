/* SPDX-License-Identifier: PostgreSQL
 *
 * utility.c
 *	  Keeps the relay out of the way of commands that need its database alone,
 *	  and has the launcher look after those that change its switch.
 *
 * Runs in the backend that executes the command.  DROP DATABASE, RENAME, SET
 * TABLESPACE and CREATE DATABASE ... TEMPLATE fail while any process is connected to the
 * database; DROP EXTENSION would wait for the relay's locks.  After the same
 * permission check as the command's own, the slot is suspended and its worker
 * ended; the end of the transaction, by commit, error or FATAL, lifts the suspension and lets
 * the launcher look again.
 *
 * The launcher also looks, at commit, after ALTER DATABASE ... SET or RESET of
 * outbox.relay, by start_relay() and stop_relay() or by hand, ALTER DATABASE ... ALLOW_CONNECTIONS
 * and ALTER EXTENSION outbox UPDATE.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/memutils.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "shmem.h"
#include "utility.h"

#define WORKER_EXIT_MS	10000	/* a worker exits within 5 s */
#define WORKER_POLL_MS	10

static ProcessUtility_hook_type previous_utility = NULL;

/* What the current transaction has suspended, until it ends. */
static OutboxSlot *suspended_slot = NULL;
static Oid	suspended_database = InvalidOid;
static bool forget_at_commit = false;	/* DROP DATABASE */
static bool reset_at_commit = false;	/* DROP EXTENSION: the next one begins anew */
static bool look_again = false;

/* Databases to look at when the transaction commits; in TopTransactionContext. */
static List *looks = NIL;
static bool callback_registered = false;

static void
reset_slot(OutboxSlot *slot)
{
	pg_atomic_write_u32(&slot->segment, 0);
	pg_atomic_write_u64(&slot->backlog, 0);
	pg_atomic_write_u64(&slot->waiting_since, 0);
	SpinLockAcquire(&slot->mutex);
	slot->status.delivered_batch = -1;
	SpinLockRelease(&slot->mutex);
}

static void
request_looks(bool committed)
{
	ListCell   *cell;

	foreach(cell, looks)
	{
		Oid			database = lfirst_oid(cell);
		OutboxSlot *slot = outbox_shmem_slot_of(database, committed);

		if (slot == NULL)
			continue;			/* look_at_commit has warned */
		if (!committed)
		{
			outbox_shmem_release(slot, database);
			continue;
		}
		LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
		if (slot->database == database)
		{
			slot->probe = true;
			slot->failures = 0;
		}
		LWLockRelease(outbox_shared->lock);
	}
	looks = NIL;
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

static void
lift_suspension(XactEvent event)
{
	Oid			database = suspended_database;
	OutboxSlot *slot = suspended_slot;

	suspended_slot = NULL;
	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database)
	{
		slot->suspended--;
		if (event == XACT_EVENT_COMMIT && reset_at_commit)
			reset_slot(slot);
		if (look_again)
			slot->probe = true;
	}
	LWLockRelease(outbox_shared->lock);

	if (event == XACT_EVENT_COMMIT && forget_at_commit)
		outbox_shmem_forget(database);
	else
		outbox_shmem_release(slot, database);
	outbox_shmem_wake(&outbox_shared->launcher_proc);
}

static void
end_transaction(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_PREPARE && looks != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot PREPARE a transaction that has started or stopped the relay")));
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT && event != XACT_EVENT_PREPARE)
		return;
	if (looks != NIL)
		request_looks(event == XACT_EVENT_COMMIT);
	if (suspended_slot != NULL)
		lift_suspension(event);
}

static void
register_callback(void)
{
	if (!callback_registered)
		RegisterXactCallback(end_transaction, NULL);
	callback_registered = true;
}

/* Tells the slot's worker to exit; returns its pid, 0 = none. */
static int
suspend_slot(OutboxSlot *slot, Oid database)
{
	int			pid = 0;

	LWLockAcquire(outbox_shared->lock, LW_EXCLUSIVE);
	if (slot->database == database)
	{
		slot->suspended++;
		suspended_slot = slot;
		suspended_database = database;
		pid = slot->worker_pid;
		look_again = pid != 0 || slot->probe || slot->wanted || !slot->answered;
		if (pid != 0)
			kill(pid, SIGTERM);
	}
	LWLockRelease(outbox_shared->lock);
	return pid;
}

static void
wait_for_exit(int pid)
{
	TimestampTz deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), WORKER_EXIT_MS);

	while (BackendPidGetProc(pid) != NULL && GetCurrentTimestamp() < deadline)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 WORKER_POLL_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static void
suspend_relay(Oid database, bool forget, bool reset)
{
	OutboxSlot *slot;
	int			pid;

	/* A second command of the transaction finds the database suspended. */
	if (suspended_slot != NULL && database == suspended_database)
		reset_at_commit |= reset;
	if (outbox_shared == NULL || suspended_slot != NULL)
		return;
	slot = outbox_shmem_slot_of(database, true);
	if (slot == NULL)
		return;					/* all slots taken: no worker can be there */
	register_callback();
	forget_at_commit = forget;
	reset_at_commit = reset;
	pid = suspend_slot(slot, database);
	if (pid != 0)
		wait_for_exit(pid);
}

/* Owner's commands on a database other than the current one. */
static void
suspend_owned(const char *name, bool forget)
{
	Oid			database = get_database_oid(name, true);

	if (OidIsValid(database) && database != MyDatabaseId &&
		outbox_compat_owns_database(database, GetUserId()))
		suspend_relay(database, forget, false);
}

static bool
may_create_database(void)
{
	HeapTuple	tuple;
	bool		may = false;

	if (superuser())
		return true;
	tuple = SearchSysCache1(AUTHOID, ObjectIdGetDatum(GetUserId()));
	if (HeapTupleIsValid(tuple))
	{
		may = ((Form_pg_authid) GETSTRUCT(tuple))->rolcreatedb;
		ReleaseSysCache(tuple);
	}
	return may;
}

/* May the user copy this database (createdb in dbcommands.c)? */
static bool
may_copy_database(Oid database)
{
	HeapTuple	tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool		template = false;

	if (HeapTupleIsValid(tuple))
	{
		template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return template || outbox_compat_owns_database(database, GetUserId());
}

static void
suspend_template(CreatedbStmt *stmt)
{
	const char *template = "template1";
	ListCell   *cell;
	Oid			database;

	foreach(cell, stmt->options)
	{
		DefElem    *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			template = defGetString(option);
	}
	database = get_database_oid(template, true);
	if (OidIsValid(database) && database != MyDatabaseId &&
		may_create_database() && may_copy_database(database))
		suspend_relay(database, false, false);
}

static bool
has_option(List *options, const char *name)
{
	ListCell   *cell;

	foreach(cell, options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	}
	return false;
}

static void
suspend_moved(AlterDatabaseStmt *stmt)
{
	if (has_option(stmt->options, "tablespace"))
		suspend_owned(stmt->dbname, false);
}

static void
suspend_extension(const char *name, bool reset)
{
	Oid			extension = InvalidOid;

	if (strcmp(name, "outbox") == 0)
		extension = get_extension_oid(name, true);
	if (OidIsValid(extension) && outbox_compat_owns_extension(extension, GetUserId()))
		suspend_relay(MyDatabaseId, false, reset);
}

static void
suspend_dropped(DropStmt *stmt)
{
	ListCell   *cell;

	if (stmt->removeType != OBJECT_EXTENSION)
		return;
	foreach(cell, stmt->objects)
		suspend_extension(strVal(lfirst(cell)), true);
}

static void
suspend_for(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			suspend_owned(((DropdbStmt *) stmt)->dbname, true);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				suspend_owned(((RenameStmt *) stmt)->subname, false);
			break;
		case T_AlterDatabaseStmt:
			suspend_moved((AlterDatabaseStmt *) stmt);
			break;
		case T_CreatedbStmt:
			suspend_template((CreatedbStmt *) stmt);
			break;
		case T_DropStmt:
			suspend_dropped((DropStmt *) stmt);
			break;
		case T_AlterExtensionStmt:
			suspend_extension(((AlterExtensionStmt *) stmt)->extname, false);
			break;
		default:
			break;
	}
}

static void
look_at_commit(Oid database)
{
	MemoryContext old;

	if (outbox_shared == NULL || !OidIsValid(database))
		return;
	if (outbox_shmem_slot_of(database, true) == NULL)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("outbox serves at most %d databases of a server", OUTBOX_MAX_DATABASES),
				 errdetail("The relay of this one is not started.")));
	register_callback();
	old = MemoryContextSwitchTo(TopTransactionContext);
	looks = list_append_unique_oid(looks, database);
	MemoryContextSwitchTo(old);
}

/* The command has been executed, with every check of its own. */
static void
look_after(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_AlterDatabaseSetStmt:
			{
				AlterDatabaseSetStmt *change = (AlterDatabaseSetStmt *) stmt;

				if (change->setstmt->kind == VAR_RESET_ALL ||
					(change->setstmt->name != NULL && pg_strcasecmp(change->setstmt->name, "outbox.relay") == 0))
					look_at_commit(get_database_oid(change->dbname, true));
				break;
			}
		case T_AlterDatabaseStmt:
			if (has_option(((AlterDatabaseStmt *) stmt)->options, "allow_connections"))
				look_at_commit(get_database_oid(((AlterDatabaseStmt *) stmt)->dbname, true));
			break;
		case T_AlterExtensionStmt:
			if (strcmp(((AlterExtensionStmt *) stmt)->extname, "outbox") == 0)
				look_at_commit(MyDatabaseId);
			break;
		default:
			break;
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *completion)
{
	Node	   *stmt = pstmt->utilityStmt;
	bool		changes_switch = IsA(stmt, AlterDatabaseSetStmt) ||
		IsA(stmt, AlterDatabaseStmt) || IsA(stmt, AlterExtensionStmt);

	suspend_for(stmt);
	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment,
						 dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
								environment, dest, completion);
	/* Other statements may be freed by now: ROLLBACK, say. */
	if (changes_switch)
		look_after(stmt);
}

void
outbox_utility_install(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}
