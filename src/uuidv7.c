/* SPDX-License-Identifier: PostgreSQL
 *
 * uuidv7.c
 *	  UUID version 7 (RFC 9562): the identity of an event.
 *
 * Runs in application backends.  Random bytes are fetched 4 kB at a time: one call
 * of pg_strong_random for each id would cost more than the rest of it.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "uuidv7.h"

#define POOL_SIZE		  4096
#define RANDOM_BYTES	  8 /* of one id */
#define UNIX_EPOCH_OFFSET ((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

static uint8  pool[POOL_SIZE];
static size_t pool_used = POOL_SIZE;
static int	  pool_pid = 0; /* a forked child must not repeat its parent's bytes */

static void
take_random_bytes(uint8 *dst)
{
	if (pool_used + RANDOM_BYTES > POOL_SIZE || pool_pid != MyProcPid)
	{
		pool_used = POOL_SIZE;
		if (!pg_strong_random(pool, POOL_SIZE))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values for an event id")));
		pool_used = 0;
		pool_pid = MyProcPid;
	}
	memcpy(dst, pool + pool_used, RANDOM_BYTES);
	pool_used += RANDOM_BYTES;
}

void
outbox_uuidv7_make(pg_uuid_t *id, TimestampTz now)
{
	int64  unix_us = now + UNIX_EPOCH_OFFSET;
	int64  ms = unix_us / 1000;
	uint32 fraction = (uint32) (unix_us % 1000) * 4096 / 1000;

	for (int i = 0; i < 6; i++)
		id->data[i] = (uint8) (ms >> (8 * (5 - i)));
	id->data[6] = (uint8) (0x70 | (fraction >> 8));
	id->data[7] = (uint8) fraction;
	take_random_bytes(id->data + 8);
	id->data[8] = (id->data[8] & 0x3F) | 0x80;
}
