/* SPDX-License-Identifier: PostgreSQL
 *
 * utility.c
 *	  Keeps the relay out of the way of commands that need its database alone,
 *	  and has the launcher look after those that change its switch.
 *
 * Runs in the backend that executes the command.  DROP DATABASE, RENAME, SET TABLESPACE and CREATE
 * DATABASE ... TEMPLATE fail while any process is connected to the database; DROP EXTENSION would
 * wait for the relay's locks.  After the same permission check as the command's own, the slot is
 * suspended and its worker ended (suspend.c).  A command that drops events tells of those that were
 * not sent (unsent.c).
 *
 * The launcher also looks, at commit, after ALTER DATABASE ... SET or RESET of outbox.relay, by
 * start_relay() and stop_relay() or by hand, ALTER DATABASE ... ALLOW_CONNECTIONS, CREATE EXTENSION
 * outbox and ALTER EXTENSION outbox UPDATE.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_database.h"
#include "catalog/pg_extension.h"
#include "commands/dbcommands.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "tcop/utility.h"
#include "utils/acl.h"
#include "utils/syscache.h"

#include "compat.h"
#include "guc.h"
#include "suspend.h"
#include "unsent.h"
#include "utility.h"
#include "worker.h"

static ProcessUtility_hook_type previous_utility = NULL;

/* What must be known across the execution of one command. */
typedef struct Command
{
	Node			 *stmt;
	const char		 *tag;		  /* "DROP EXTENSION", ... */
	OutboxSuspension *suspension; /* NULL = none */
	Oid				  extension;  /* may be dropped by it; InvalidOid = none */
	OutboxUnsent	  unsent;	  /* what goes with it */
	char			 *lost;		  /* the same of a dropped database; NULL = nothing */
} Command;

/* Owner's commands on a database other than the current one; false: not such a one. */
static bool
suspend_owned(Command *command, const char *name)
{
	Oid database = get_database_oid(name, true);

	if (!OidIsValid(database) || database == MyDatabaseId ||
		!outbox_compat_owns_database(database, GetUserId()))
		return false;
	command->suspension = outbox_suspend_relay(database, command->tag);
	return true;
}

static void
suspend_dropped_database(Command *command, const char *name)
{
	if (!suspend_owned(command, name))
		return;
	outbox_suspend_end_slot(command->suspension, true);
	command->lost = outbox_unsent_of_database(get_database_oid(name, true));
	/* before: DROP DATABASE cannot be rolled back */
	if (command->lost != NULL && outbox_guc_drop_unsent == OUTBOX_DROP_REFUSE)
		outbox_unsent_tell_database(name, command->lost);
}

static bool
may_create_database(void)
{
	HeapTuple tuple;
	bool	  may = false;

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
	HeapTuple tuple = SearchSysCache1(DATABASEOID, ObjectIdGetDatum(database));
	bool template = false;

	if (HeapTupleIsValid(tuple))
	{
		template = ((Form_pg_database) GETSTRUCT(tuple))->datistemplate;
		ReleaseSysCache(tuple);
	}
	return template || outbox_compat_owns_database(database, GetUserId());
}

static void
suspend_template(Command *command, CreatedbStmt *stmt)
{
	const char *template = "template1";
	ListCell *cell;
	Oid		  database;

	foreach(cell, stmt->options)
	{
		DefElem *option = lfirst_node(DefElem, cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL)
			template = defGetString(option);
	}
	database = get_database_oid(template, true);
	if (OidIsValid(database) && database != MyDatabaseId && may_create_database() &&
		may_copy_database(database))
		command->suspension = outbox_suspend_relay(database, command->tag);
}

static bool
has_option(List *options, const char *name)
{
	ListCell *cell;

	foreach(cell, options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, name) == 0)
			return true;
	}
	return false;
}

static bool
is_outbox(const char *extension)
{
	return strcmp(extension, "outbox") == 0;
}

/* The extension of this database if the user may change it. */
static Oid
get_own_extension(void)
{
	Oid extension = get_extension_oid("outbox", true);

	return OidIsValid(extension) && outbox_compat_owns_extension(extension, GetUserId()) ?
		extension :
		InvalidOid;
}

/* Could the command drop the extension: by name, or with the language of its functions? */
static bool
may_drop_extension(DropStmt *stmt)
{
	ListCell *cell;

	if (stmt->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, stmt->objects)
	{
		const char *name = strVal(lfirst(cell));

		if (is_outbox(name) || (stmt->behavior == DROP_CASCADE && strcmp(name, "plpgsql") == 0))
			return true;
	}
	return false;
}

/* Does DROP OWNED drop the extension, and may the user? */
static bool
drops_extension_of(DropOwnedStmt *stmt)
{
	Oid		  extension = get_extension_oid("outbox", true);
	ListCell *cell;

	foreach(cell, stmt->roles)
	{
		Oid role = get_rolespec_oid(lfirst_node(RoleSpec, cell), true);

		if (OidIsValid(extension) && OidIsValid(role) && has_privs_of_role(GetUserId(), role) &&
			outbox_unsent_extension_owner(extension) == role)
			return true;
	}
	return false;
}

static void
suspend_dropped_extension(Command *command)
{
	command->extension = get_own_extension();
	if (!OidIsValid(command->extension))
		return;
	command->suspension = outbox_suspend_relay(MyDatabaseId, command->tag);
	outbox_unsent_count(command->extension, &command->unsent);
}

static void
suspend_for(Command *command)
{
	Node *stmt = command->stmt;

	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
			suspend_dropped_database(command, ((DropdbStmt *) stmt)->dbname);
			break;
		case T_RenameStmt:
			if (((RenameStmt *) stmt)->renameType == OBJECT_DATABASE)
				(void) suspend_owned(command, ((RenameStmt *) stmt)->subname);
			break;
		case T_AlterDatabaseStmt:
			if (has_option(((AlterDatabaseStmt *) stmt)->options, "tablespace"))
				(void) suspend_owned(command, ((AlterDatabaseStmt *) stmt)->dbname);
			break;
		case T_CreatedbStmt:
			suspend_template(command, (CreatedbStmt *) stmt);
			break;
		case T_DropStmt:
			if (may_drop_extension((DropStmt *) stmt))
				suspend_dropped_extension(command);
			break;
		case T_DropOwnedStmt:
			if (drops_extension_of((DropOwnedStmt *) stmt))
				suspend_dropped_extension(command);
			break;
		case T_AlterExtensionStmt:
			if (is_outbox(((AlterExtensionStmt *) stmt)->extname) &&
				OidIsValid(get_own_extension()))
				command->suspension = outbox_suspend_relay(MyDatabaseId, command->tag);
			break;
		default:
			break;
	}
}

static void
finish_dropped_extension(Command *command)
{
	if (get_extension_oid("outbox", true) == command->extension)
		outbox_suspend_lift(command->suspension); /* IF EXISTS, or something else */
	else
	{
		outbox_suspend_end_slot(command->suspension, false);
		outbox_unsent_tell_extension(&command->unsent);
	}
}

/*
 * An update needs the relay away while its script runs and while it commits; in between the
 * relay sees the objects of before, and the transaction may be open for long.
 */
static void
finish_updated_extension(Command *command)
{
	outbox_suspend_lift(command->suspension);
	outbox_suspend_over_commit();
	outbox_suspend_look_at_commit(MyDatabaseId, true);
}

/* The command has been executed, with every check of its own. */
static void
finish_command(Command *command)
{
	Node *stmt = command->stmt;

	switch (nodeTag(stmt))
	{
		case T_AlterDatabaseSetStmt:
		{
			AlterDatabaseSetStmt *change = (AlterDatabaseSetStmt *) stmt;

			if (change->setstmt->kind == VAR_RESET_ALL ||
				(change->setstmt->name != NULL && outbox_worker_is_switch(change->setstmt->name)))
				outbox_suspend_look_at_commit(get_database_oid(change->dbname, true), true);
			break;
		}
		case T_AlterDatabaseStmt:
			if (has_option(((AlterDatabaseStmt *) stmt)->options, "allow_connections"))
				outbox_suspend_look_at_commit(get_database_oid(((AlterDatabaseStmt *) stmt)->dbname,
															   true),
											  true);
			break;
		case T_CreateExtensionStmt:
			/* the switch may be on from an earlier one: DROP and CREATE, a restore */
			if (is_outbox(((CreateExtensionStmt *) stmt)->extname))
				outbox_suspend_look_at_commit(MyDatabaseId, false);
			break;
		case T_AlterExtensionStmt:
			if (is_outbox(((AlterExtensionStmt *) stmt)->extname))
				finish_updated_extension(command);
			break;
		case T_DropdbStmt:
			if (command->lost != NULL)
				outbox_unsent_tell_database(((DropdbStmt *) stmt)->dbname, command->lost);
			break;
		case T_DropStmt:
		case T_DropOwnedStmt:
			if (OidIsValid(command->extension))
				finish_dropped_extension(command);
			break;
		default:
			break;
	}
}

/*
 * Are there things to do before or after it?  Other statements may be freed once executed:
 * ROLLBACK, say.
 */
static bool
is_of_concern(Node *stmt)
{
	switch (nodeTag(stmt))
	{
		case T_DropdbStmt:
		case T_RenameStmt:
		case T_AlterDatabaseStmt:
		case T_AlterDatabaseSetStmt:
		case T_CreatedbStmt:
		case T_DropStmt:
		case T_DropOwnedStmt:
		case T_CreateExtensionStmt:
		case T_AlterExtensionStmt:
			return true;
		default:
			return false;
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params, QueryEnvironment *environment,
			DestReceiver *dest, QueryCompletion *completion)
{
	Command command = {.stmt = pstmt->utilityStmt};
	bool	concerns = is_of_concern(command.stmt);

	if (concerns)
	{
		command.tag = GetCommandTagName(CreateCommandTag(command.stmt));
		suspend_for(&command);
	}
	if (previous_utility)
		previous_utility(pstmt, query, read_only_tree, context, params, environment, dest,
						 completion);
	else
		standard_ProcessUtility(pstmt, query, read_only_tree, context, params, environment, dest,
								completion);
	if (concerns)
		finish_command(&command);
}

void
outbox_utility_install(void)
{
	previous_utility = ProcessUtility_hook;
	ProcessUtility_hook = run_utility;
}
