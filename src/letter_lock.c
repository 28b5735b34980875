/* SPDX-License-Identifier: PostgreSQL
 *
 * letter_lock.c
 *	  Who tries a dead letter: a lock of the session that nobody else can take.
 *
 * Runs in consumers' backends, as the extension's owner.  SQL's advisory locks have a key that any
 * role may take, or sees in pg_locks; these have a fourth field that none of SQL's functions
 * writes.
 */
#include "postgres.h"

#include "fmgr.h"
#include "miscadmin.h"
#include "storage/lock.h"

/* pg_advisory_lock() writes 1 or 2 here. */
#define LETTER_LOCK 0x6f62

PG_FUNCTION_INFO_V1(outbox_dead_letter_lock);
PG_FUNCTION_INFO_V1(outbox_dead_letter_unlock);

static LOCKTAG
make_tag(int64 letter)
{
	LOCKTAG tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) ((uint64) letter >> 32), (uint32) letter,
						 LETTER_LOCK);
	return tag;
}

/*
 * dead_letter_lock(dead_letter bigint) returns boolean, STRICT: false when another session has it;
 * not waited for.  A session has it once, however often it asks: what a statement took that then
 * failed is given up with the next try.
 */
Datum
outbox_dead_letter_lock(PG_FUNCTION_ARGS)
{
	LOCKTAG			  tag = make_tag(PG_GETARG_INT64(0));
	LockAcquireResult result = LockAcquire(&tag, ExclusiveLock, true, true);

	if (result == LOCKACQUIRE_ALREADY_HELD)
		(void) LockRelease(&tag, ExclusiveLock, true);
	PG_RETURN_BOOL(result != LOCKACQUIRE_NOT_AVAIL);
}

/*
 * dead_letter_unlock(dead_letter bigint) returns boolean, STRICT: false, with a warning, when this
 * session does not have it
 */
Datum
outbox_dead_letter_unlock(PG_FUNCTION_ARGS)
{
	LOCKTAG tag = make_tag(PG_GETARG_INT64(0));

	PG_RETURN_BOOL(LockRelease(&tag, ExclusiveLock, true));
}
