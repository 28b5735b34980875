/* SPDX-License-Identifier: PostgreSQL
 *
 * utility.c
 *	  Keeps the relay out of the way of commands that need its database alone.
 *
 * Runs in the backend that executes the command.  DROP DATABASE, RENAME, SET
 * TABLESPACE and CREATE DATABASE ... TEMPLATE fail while any process is connected to the
 * database; DROP EXTENSION would wait for the relay's locks.  After the same
 * permission check as the command's own, the slot is suspended and its worker
 * ended; the end of the transaction, by commit, error or FATAL, lifts the suspension and lets
 * the launcher look again.
 */
#include "postgres.h"

#include <signal.h>

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/procarray.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

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

static void
reset_slot(OutboxSlot *slot)
{
	pg_atomic_write_u32(&slot->segment, 0);
	SpinLockAcquire(&slot->mutex);
	slot->status.delivered_batch = -1;
	SpinLockRelease(&slot->mutex);
}

static void
lift_suspension(XactEvent event, void *arg)
{
	Oid			database = suspended_database;
	OutboxSlot *slot = suspended_slot;

	if (slot == NULL || (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT &&
						 event != XACT_EVENT_PREPARE))
		return;
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
suspend_relay(Oid database, bool forget)
{
	static bool registered = false;
	OutboxSlot *slot;
	int			pid;

	/* A second command of the transaction finds the database suspended. */
	if (outbox_shared == NULL || suspended_slot != NULL)
		return;
	slot = outbox_shmem_slot_of(database, true);
	if (slot == NULL)
		return;					/* all slots taken: no worker can be there */
	if (!registered)
		RegisterXactCallback(lift_suspension, NULL);
	registered = true;
	forget_at_commit = forget;
	reset_at_commit = database == MyDatabaseId;
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
		pg_database_ownercheck(database, GetUserId()))
		suspend_relay(database, forget);
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
	return template || pg_database_ownercheck(database, GetUserId());
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
		suspend_relay(database, false);
}

static void
suspend_moved(AlterDatabaseStmt *stmt)
{
	ListCell   *cell;

	foreach(cell, stmt->options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "tablespace") == 0)
			suspend_owned(stmt->dbname, false);
	}
}

static void
suspend_extension(DropStmt *stmt)
{
	ListCell   *cell;

	if (stmt->removeType != OBJECT_EXTENSION)
		return;
	foreach(cell, stmt->objects)
	{
		Oid			extension;

		if (strcmp(strVal(lfirst(cell)), "outbox") != 0)
			continue;
		extension = get_extension_oid("outbox", true);
		if (OidIsValid(extension) && pg_extension_ownercheck(extension, GetUserId()))
			suspend_relay(MyDatabaseId, false);
	}
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
			suspend_extension((DropStmt *) stmt);
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
	suspend_for(pstmt->utilityStmt);
	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment,
						 dest, completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params,
								environment, dest, completion);
}

void
outbox_utility_install(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}
