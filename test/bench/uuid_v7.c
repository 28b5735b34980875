/* SPDX-License-Identifier: PostgreSQL
 *
 * uuid_v7.c
 *	  A UUID version 7 for the defaults of the plain table that emit() is
 *	  compared with: the server has none before version 18.
 *
 * Runs in the backend of the emit benchmark, loaded by its path; random bytes
 * for each call and the system's clock, as the usual extensions do it.
 */
#include "postgres.h"

#include <sys/time.h>

#include "fmgr.h"
#include "utils/uuid.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(bench_uuid_v7);

Datum
bench_uuid_v7(PG_FUNCTION_ARGS)
{
	pg_uuid_t	  *id = palloc(sizeof(pg_uuid_t));
	struct timeval now;
	uint64		   ms;

	if (!pg_strong_random(id->data + 6, UUID_LEN - 6))
		elog(ERROR, "no random bytes");
	gettimeofday(&now, NULL);
	ms = (uint64) now.tv_sec * 1000 + now.tv_usec / 1000;
	for (int i = 0; i < 6; i++)
		id->data[i] = (unsigned char) (ms >> (40 - 8 * i));
	id->data[6] = (id->data[6] & 0x0f) | 0x70;
	id->data[8] = (id->data[8] & 0x3f) | 0x80;
	PG_RETURN_UUID_P(id);
}
