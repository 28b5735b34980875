/* SPDX-License-Identifier: PostgreSQL
 *
 * objects.c
 *	  Which versions of the extension's objects a program works with.
 *
 * Runs in the services and the monitor at start, main thread.
 */
#define _GNU_SOURCE
#include "objects.h"

#include <stdio.h>

#include "db_session.h"

/* The oldest version with all that the programs call: raised with the first call of something new.
 */
#ifndef OUTBOX_OBJECTS_NEEDED
#define OUTBOX_OBJECTS_NEEDED "1.0"
#endif

#define ASK_MS 5000

static const char version_sql[] =
	"SELECT extversion FROM pg_catalog.pg_extension WHERE extname = 'outbox'";

bool
outbox_objects_serve(const char *version, const char *needed, char *reason, size_t size)
{
	int major = 0;
	int minor = 0;
	int needed_major = 0;
	int needed_minor = 0;

	(void) sscanf(needed, "%d.%d", &needed_major, &needed_minor);
	if (sscanf(version, "%d.%d", &major, &minor) == 2 && major == needed_major &&
		minor >= needed_minor)
		return true;
	snprintf(reason, size,
			 "the objects of extension outbox are of version %s, and this program needs %s or a "
			 "later %d: install programs and extension of one version, then ALTER EXTENSION outbox "
			 "UPDATE",
			 version, needed, needed_major);
	return false;
}

bool
outbox_objects_check(const char *conninfo, char *reason, size_t size)
{
	OutboxDb  db;
	PGresult *result = NULL;
	bool	  serve = true;

	if (!outbox_db_open(&db, conninfo, ASK_MS))
		return true;
	db.reads = true;
	if (outbox_db_connect(&db))
		result = outbox_db_query_within(&db, version_sql, 0, NULL, ASK_MS);
	if (result != NULL && PQntuples(result) > 0)
		serve = outbox_objects_serve(PQgetvalue(result, 0, 0), OUTBOX_OBJECTS_NEEDED, reason, size);
	PQclear(result);
	outbox_db_close(&db);
	return serve;
}
