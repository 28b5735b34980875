/* SPDX-License-Identifier: PostgreSQL
 *
 * owner.c
 *	  Whose rights a transaction of the relay has, and whose the extension's objects are.
 *
 * Runs in the relay and in the probe.  The objects are looked through when the process starts and
 * when one of their catalog rows has changed; between two looks, invalidation messages tell.
 * REASSIGN OWNED has to lock outbox.event_seq, the first relation the extension made, before it can
 * hand the extension to somebody else, and every transaction here holds that lock: so the owner it
 * runs as is the owner until its end.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaddress.h"
#include "catalog/pg_depend.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_foreign_data_wrapper.h"
#include "commands/extension.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "owner.h"

#define LOCKED_SEQUENCE "event_seq"

/* What one look through the objects finds. */
typedef struct OwnerLook
{
	Oid			  owner;
	uint32		 *hashes; /* of the objects' catalog rows, in TopMemoryContext */
	int			  count;
	int			  room;
	int			  foreign; /* number of objects of others */
	ObjectAddress first;   /* of them */
	Oid			  first_owner;
} OwnerLook;

static bool	   stale = true;
static uint32 *watched = NULL; /* sorted hashes of the rows looked at; NULL: any change counts */
static int	   watched_count = 0;

static Oid saved_user;
static int saved_context;
static int guc_level;

/* -------------------------------------------------------------- changes */

static int
compare_hashes(const void *a, const void *b)
{
	uint32 left = *(const uint32 *) a;
	uint32 right = *(const uint32 *) b;

	return (left > right) - (left < right);
}

static void
note_change(Datum arg, int cache_id, uint32 hash_value)
{
	if (hash_value == 0 || watched == NULL ||
		bsearch(&hash_value, watched, watched_count, sizeof(uint32), compare_hashes) != NULL)
		stale = true;
}

static void
watch_cache(int cache_id)
{
	static bool registered[SysCacheSize];

	if (registered[cache_id])
		return;
	CacheRegisterSyscacheCallback(cache_id, note_change, (Datum) 0);
	registered[cache_id] = true;
}

bool
outbox_owner_is_stale(void)
{
	return stale;
}

/* ---------------------------------------------------------------- owner */

static Oid
read_owner(void)
{
	Relation	extensions = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	Oid			owner = InvalidOid;

	ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ,
				CStringGetDatum("outbox"));
	scan = systable_beginscan(extensions, ExtensionNameIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
		owner = ((Form_pg_extension) GETSTRUCT(tuple))->extowner;
	systable_endscan(scan);
	table_close(extensions, AccessShareLock);
	if (!OidIsValid(owner))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT), errmsg("extension \"outbox\" does not exist")));
	return owner;
}

Oid
outbox_owner_lock(void)
{
	Oid schema = get_namespace_oid("outbox", true);
	Oid sequence = OidIsValid(schema) ? get_relname_relid(LOCKED_SEQUENCE, schema) : InvalidOid;

	if (OidIsValid(sequence))
		LockRelationOid(sequence, AccessShareLock);
	return read_owner();
}

static void
look_at(OwnerLook *look, const ObjectAddress *object)
{
	int		   cache_id;
	AttrNumber column;
	HeapTuple  tuple;
	bool	   isnull;
	Oid		   owner;

	if (!is_objectclass_supported(object->classId))
		return;
	cache_id = get_object_catcache_oid(object->classId);
	column = get_object_attnum_owner(object->classId);
	if (cache_id < 0 || column == InvalidAttrNumber)
		return;
	watch_cache(cache_id);
	tuple = SearchSysCache1(cache_id, ObjectIdGetDatum(object->objectId));
	if (!HeapTupleIsValid(tuple))
		return;
	owner = DatumGetObjectId(SysCacheGetAttr(cache_id, tuple, column, &isnull));
	ReleaseSysCache(tuple);

	if (look->count == look->room)
	{
		look->room *= 2;
		look->hashes = repalloc(look->hashes, sizeof(uint32) * look->room);
	}
	look->hashes[look->count++] =
		GetSysCacheHashValue1(cache_id, ObjectIdGetDatum(object->objectId));
	if (owner == look->owner ||
		(object->classId == ForeignDataWrapperRelationId && superuser_arg(owner)))
		return; /* nobody but a superuser can own a wrapper */
	if (look->foreign++ == 0)
	{
		look->first = *object;
		look->first_owner = owner;
	}
}

static void
look_at_members(OwnerLook *look)
{
	Relation	depend = table_open(DependRelationId, AccessShareLock);
	ScanKeyData keys[2];
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&keys[0], Anum_pg_depend_refclassid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(ExtensionRelationId));
	ScanKeyInit(&keys[1], Anum_pg_depend_refobjid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(get_extension_oid("outbox", false)));
	scan = systable_beginscan(depend, DependReferenceIndexId, true, NULL, 2, keys);
	while (HeapTupleIsValid(tuple = systable_getnext(scan)))
	{
		Form_pg_depend member = (Form_pg_depend) GETSTRUCT(tuple);
		ObjectAddress  object;

		if (member->deptype != DEPENDENCY_EXTENSION)
			continue;
		ObjectAddressSet(object, member->classid, member->objid);
		look_at(look, &object);
	}
	systable_endscan(scan);
	table_close(depend, AccessShareLock);
}

static char *
describe_foreign(const OwnerLook *look)
{
	StringInfoData text;

	initStringInfo(&text);
	appendStringInfo(&text, "%s belongs to role \"%s\", the extension to role \"%s\"",
					 getObjectDescription(&look->first, false),
					 GetUserNameFromId(look->first_owner, false),
					 GetUserNameFromId(look->owner, false));
	if (look->foreign > 1)
		appendStringInfo(&text, "; so do %d more objects that are not its owner's",
						 look->foreign - 1);
	return text.data;
}

char *
outbox_owner_find_foreign(Oid owner)
{
	OwnerLook look = {.owner = owner, .room = 512};
	uint32	 *outdated = watched;

	stale = false; /* before the look: what changes meanwhile is looked at again */
	look.hashes = MemoryContextAlloc(TopMemoryContext, sizeof(uint32) * look.room);
	watched = NULL;
	look_at_members(&look);
	qsort(look.hashes, look.count, sizeof(uint32), compare_hashes);
	watched = look.hashes;
	watched_count = look.count;
	if (outdated != NULL)
		pfree(outdated);
	if (look.foreign == 0)
		return NULL;
	stale = true;
	return describe_foreign(&look);
}

char *
outbox_owner_look(bool always)
{
	MemoryContext caller = CurrentMemoryContext;
	char		 *foreign = NULL;

	StartTransactionCommand();
	if (always || stale)
		foreign = outbox_owner_find_foreign(outbox_owner_lock());
	if (foreign != NULL)
		foreign = MemoryContextStrdup(caller, foreign);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return foreign;
}

/* --------------------------------------------------------------- rights */

void
outbox_owner_enter(Oid owner)
{
	ConstraintsSetStmt immediate = {.type = T_ConstraintsSetStmt};

	GetUserIdAndSecContext(&saved_user, &saved_context);
	SetUserIdAndSecContext(owner,
						   saved_context | SECURITY_RESTRICTED_OPERATION |
							   SECURITY_LOCAL_USERID_CHANGE | SECURITY_NOFORCE_RLS);
	guc_level = NewGUCNestLevel();
	AfterTriggerSetState(&immediate);
}

void
outbox_owner_take_back(void)
{
	AtEOXact_GUC(false, guc_level);
}

void
outbox_owner_leave(void)
{
	SetUserIdAndSecContext(saved_user, saved_context);
}
