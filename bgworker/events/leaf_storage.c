/* SPDX-License-Identifier: PostgreSQL
 *
 * leaf_storage.c
 *	  Empties a leaf of the event ring or of the batch log.
 *
 * Runs in the relay.  The leaf gets new storage the way TRUNCATE gives it (ExecuteTruncateGuts),
 * but without TRUNCATE: that is replicated logically and would remove a subscriber's own events,
 * and it waits for the TOAST table's lock while it holds the leaf's.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "catalog/index.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"

#include "leaf_storage.h"
#include "bgworker/session.h"
#include "src/compat.h"
#include "src/fault.h"

/*
 * Locks table and its indexes if all are free; the locks last until the end of the transaction
 * either way.
 */
static bool
lock_table(Oid table)
{
	Relation  relation;
	List	 *indexes;
	ListCell *cell;
	bool	  locked = true;

	if (!ConditionalLockRelationOid(table, AccessExclusiveLock))
		return false;
	relation = try_relation_open(table, NoLock);
	if (relation == NULL)
		return false;
	indexes = RelationGetIndexList(relation);
	relation_close(relation, NoLock);
	foreach(cell, indexes)
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), AccessExclusiveLock))
		{
			locked = false;
			break;
		}
	}
	list_free(indexes);
	return locked;
}

static Oid
find_toast_table(Oid table)
{
	Relation relation = relation_open(table, NoLock);
	Oid		 toast = relation->rd_rel->reltoastrelid;

	relation_close(relation, NoLock);
	return toast;
}

/* Caller holds AccessExclusiveLock on everything touched here. */
static void
replace_storage(Oid table, Oid toast)
{
	ReindexParams params = {0};
	Relation	  relation = table_open(table, NoLock);

	outbox_compat_set_new_file(relation, relation->rd_rel->relpersistence);
	pgstat_count_truncate(relation);
	table_close(relation, NoLock);
	if (OidIsValid(toast))
	{
		relation = table_open(toast, NoLock);
		outbox_compat_set_new_file(relation, relation->rd_rel->relpersistence);
		table_close(relation, NoLock);
	}
	outbox_compat_reindex(table, REINDEX_REL_PROCESS_TOAST, &params);
}

/* Whoever wrote to the locked leaf has ended: only a snapshot taken now sees all of it. */
static bool
may_empty(OutboxEmptyCheck may, void *arg)
{
	bool answer;

	PushActiveSnapshot(GetTransactionSnapshot());
	answer = may(arg);
	PopActiveSnapshot();
	return answer;
}

bool
outbox_leaf_empty(Oid table, OutboxEmptyCheck may, void *arg, bool *locked)
{
	bool emptied = false;

	outbox_session_begin();
	OUTBOX_FAULT("leaf-unlocked");
	*locked = lock_table(table);
	if (*locked)
	{
		Oid toast = find_toast_table(table);

		if (OidIsValid(toast))
			*locked = lock_table(toast);
		OUTBOX_FAULT("leaf-locked");
		if (*locked && may_empty(may, arg))
		{
			replace_storage(table, toast);
			emptied = true;
			OUTBOX_FAULT("leaf-emptied");
		}
	}
	outbox_session_end();
	OUTBOX_FAULT_WHEN(emptied, "leaf-committed");
	return emptied;
}
