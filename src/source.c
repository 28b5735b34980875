/* SPDX-License-Identifier: PostgreSQL
 *
 * source.c
 *	  ce_source of this database's records.
 *
 * Runs in application backends and in the relay.
 */
#include "postgres.h"

#include "commands/dbcommands.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/lsyscache.h"

#include "encoding.h"
#include "guc.h"
#include "source.h"
#include "src/common/uri.h"
#include "src/common/utf8.h"

/* Nobody can rename a database while a process is connected to it. */
static char own_source[sizeof(OUTBOX_SOURCE_PREFIX) + 3 * MAX_CONVERSION_GROWTH * NAMEDATALEN] = "";

static void
make_own_source(void)
{
	const char *name = get_database_name(MyDatabaseId);
	int			len;

	if (name == NULL)
		elog(ERROR, "database %u does not exist", MyDatabaseId);
	/* A name is in the encoding of the database it was given in: UTF-8, if it can be. */
	len = (int) strlen(name);
	if (!outbox_utf8_valid(name, (size_t) len))
	{
		const char *utf8 = outbox_encoding_try_utf8(name, &len);

		name = utf8 != NULL ? utf8 : name;
	}
	memcpy(own_source, OUTBOX_SOURCE_PREFIX, strlen(OUTBOX_SOURCE_PREFIX));
	outbox_uri_segment(own_source + strlen(OUTBOX_SOURCE_PREFIX), name, (size_t) len);
}

const char *
outbox_source(void)
{
	if (outbox_guc_source[0] != '\0')
		return outbox_guc_source;
	if (own_source[0] == '\0')
		make_own_source();
	return own_source;
}
