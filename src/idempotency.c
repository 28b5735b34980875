/* SPDX-License-Identifier: PostgreSQL
 *
 * idempotency.c
 *	  Which leaf of outbox.idempotency an event id belongs to, and which ones are in use.
 *
 * Runs in the backends of consumers.  An id's leaf follows from the id alone and never
 * changes, for a duplicate must meet the first claim in the leaf's unique index.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "guc.h"

/*
 * The ring is 96 days.  A retention of 84 days, the most that is allowed, needs at most
 * 30 leaves: 28 of it, one for where it begins and one for where it ends.
 */
#define RING_LEAVES		  32
#define LEAF_MS			  (INT64CONST(3) * 24 * 3600 * 1000)
#define LEAF_TIMELESS	  (-1)
#define UNIX_EPOCH_OFFSET ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

PG_FUNCTION_INFO_V1(outbox_idempotency_leaf);
PG_FUNCTION_INFO_V1(outbox_idempotency_leaves_since);
PG_FUNCTION_INFO_V1(outbox_idempotency_retention);

static bool
is_version_7(const pg_uuid_t *id)
{
	return (id->data[6] & 0xF0) == 0x70 && (id->data[8] & 0xC0) == 0x80;
}

/* idempotency_leaf(event_id uuid) returns integer: 0 to 31; -1 for an id without a time */
Datum
outbox_idempotency_leaf(PG_FUNCTION_ARGS)
{
	pg_uuid_t *id = PG_GETARG_UUID_P(0);
	int64	   ms = 0;

	if (!is_version_7(id))
		PG_RETURN_INT32(LEAF_TIMELESS);
	for (int i = 0; i < 6; i++)
		ms = ms << 8 | id->data[i];
	PG_RETURN_INT32((int32) (ms / LEAF_MS % RING_LEAVES));
}

/* Which run of three days since 1970 a time is in. */
static int64
find_window(TimestampTz time)
{
	return (time + UNIX_EPOCH_OFFSET) / 1000 / LEAF_MS;
}

/* idempotency_leaves_since(since timestamptz) returns integer[]: since 1970 or later, and past */
Datum
outbox_idempotency_leaves_since(PG_FUNCTION_ARGS)
{
	int64 first = find_window(PG_GETARG_TIMESTAMPTZ(0));
	int64 last = find_window(GetCurrentTimestamp()) + 1;
	Datum leaves[RING_LEAVES];
	int	  count = 0;

	for (int64 window = Max(first, 0); window <= last && count < RING_LEAVES; window++)
		leaves[count++] = Int32GetDatum((int32) (window % RING_LEAVES));
	PG_RETURN_ARRAYTYPE_P(construct_array(leaves, count, INT4OID, sizeof(int32), true,
										  TYPALIGN_INT));
}

/* idempotency_retention() returns interval: the setting, which is the server's, whoever asks */
Datum
outbox_idempotency_retention(PG_FUNCTION_ARGS)
{
	Interval *retention = palloc0(sizeof(Interval));

	retention->time = (int64) outbox_guc_idempotency_retention * USECS_PER_SEC;
	PG_RETURN_INTERVAL_P(retention);
}
