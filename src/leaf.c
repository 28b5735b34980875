/* SPDX-License-Identifier: PostgreSQL
 *
 * leaf.c
 *	  Which leaf of the event ring takes new events.
 *
 * Runs in application backends and in the relay.  Everything is looked up by name: a leaf gets a
 * new relfilenode when it is emptied and new oids when the extension is made again.  What each
 * event needs is kept, for as long as the look-up itself would come from the syscache.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "catalog/namespace.h"
#include "catalog/pg_am_d.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "leaf.h"
#include "shmem.h"

#define TXID_COLUMN "txid"

/* What each event needs: the leaves in their order, then the others. */
enum
{
	KEPT_RING = OUTBOX_LEAVES,
	KEPT_SEQUENCE,
	KEPT_RELATIONS
};

static const char *const kept_names[KEPT_RELATIONS] = {
	"event_0",
	"event_1",
	"event_2",
	"event_3",
	"event_4",
	"event_5",
	"event_6",
	"event_7",
	[KEPT_RING] = "event",
	[KEPT_SEQUENCE] = "event_seq",
};

static Oid	kept[KEPT_RELATIONS]; /* InvalidOid: not known */
static bool kept_changed;		  /* an invalidation came during a look-up */

/* Any change of pg_class or pg_namespace: a name may mean another relation. */
static void
forget_kept(Datum arg, int cache_id, uint32 hash_value)
{
	memset(kept, 0, sizeof(kept));
	kept_changed = true;
}

Oid
outbox_leaf_named_relation(const char *name)
{
	Oid schema = get_namespace_oid("outbox", false);
	Oid relation = get_relname_relid(name, schema);

	if (!OidIsValid(relation))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"outbox.%s\" does not exist", name),
				 errhint("Drop and create the extension outbox again.")));
	return relation;
}

static Oid
look_up_kept(int place)
{
	static bool registered = false;
	Oid			found;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(RELNAMENSP, forget_kept, (Datum) 0);
		CacheRegisterSyscacheCallback(NAMESPACENAME, forget_kept, (Datum) 0);
		registered = true;
	}
	kept_changed = false;
	found = outbox_leaf_named_relation(kept_names[place]);
	if (!kept_changed)
		kept[place] = found;
	return found;
}

static inline Oid
kept_relation(int place)
{
	return OidIsValid(kept[place]) ? kept[place] : look_up_kept(place);
}

Oid
outbox_leaf_relation(int leaf)
{
	return kept_relation(leaf);
}

Oid
outbox_leaf_ring(void)
{
	return kept_relation(KEPT_RING);
}

Oid
outbox_leaf_sequence(void)
{
	return kept_relation(KEPT_SEQUENCE);
}

Relation
outbox_leaf_open_index(Relation leaf)
{
	AttrNumber column = get_attnum(RelationGetRelid(leaf), TXID_COLUMN);
	List	  *indexes = RelationGetIndexList(leaf);
	ListCell  *cell;

	foreach(cell, indexes)
	{
		Relation index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid &&
			index->rd_index->indkey.values[0] == column && RelationGetIndexPredicate(index) == NIL)
			return index;
		index_close(index, AccessShareLock);
	}
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("table \"%s\" has no valid index on its column \"%s\"",
					RelationGetRelationName(leaf), TXID_COLUMN),
			 errhint("Create it: CREATE INDEX ON outbox.%s (%s).", RelationGetRelationName(leaf),
					 TXID_COLUMN)));
	return NULL;
}

/*
 * Highest txid in a leaf, InvalidFullTransactionId when it is empty.  SnapshotAny: rows of
 * transactions in progress count, and no predicate lock is taken.
 */
static FullTransactionId
find_highest_txid(Oid leaf_oid)
{
	FullTransactionId highest = InvalidFullTransactionId;
	Relation		  leaf = table_open(leaf_oid, AccessShareLock);

	if (RelationGetNumberOfBlocks(leaf) > 0)
	{
		Relation		index = outbox_leaf_open_index(leaf);
		TupleTableSlot *slot = table_slot_create(leaf, NULL);
		IndexScanDesc	scan = outbox_compat_index_beginscan(leaf, index, SnapshotAny, 0);

		index_rescan(scan, NULL, 0, NULL, 0);
		if (index_getnext_slot(scan, BackwardScanDirection, slot))
		{
			bool  isnull;
			Datum txid = slot_getattr(slot, get_attnum(leaf_oid, TXID_COLUMN), &isnull);

			highest = FullTransactionIdFromU64(DatumGetUInt64(txid));
		}
		index_endscan(scan);
		ExecDropSingleTupleTableSlot(slot);
		index_close(index, AccessShareLock);
	}
	table_close(leaf, AccessShareLock);
	return highest;
}

static int
find_leaf(void)
{
	FullTransactionId highest = InvalidFullTransactionId;
	int				  found = 0;

	for (int leaf = 0; leaf < OUTBOX_LEAVES; leaf++)
	{
		FullTransactionId txid = find_highest_txid(outbox_leaf_relation(leaf));

		if (FullTransactionIdFollows(txid, highest))
		{
			highest = txid;
			found = leaf;
		}
	}
	return found;
}

int
outbox_leaf_current(void)
{
	OutboxSlot *slot = outbox_shmem_slot();
	uint32		known = slot ? pg_atomic_read_u32(&slot->leaf) : 0;
	int			found;

	if (known != 0)
		return (int) known - 1;

	found = find_leaf();

	/* Another process may have found it meanwhile and moved on: then known is its. */
	if (slot == NULL || pg_atomic_compare_exchange_u32(&slot->leaf, &known, (uint32) found + 1))
		return found;
	return (int) known - 1;
}
