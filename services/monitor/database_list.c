/* SPDX-License-Identifier: PostgreSQL
 *
 * database_list.c
 *	  What is checked of the databases before they are asked.
 *
 * Runs in outbox-monitor at start, main thread.
 */
#define _GNU_SOURCE
#include "database_list.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/kafka/online.h"
#include "services/lib/config.h"
#include "services/lib/conninfo.h"

bool
outbox_database_list_check(const char *value, char *error, size_t size)
{
	char  *copy = strdup(value);
	char  *rest = copy;
	char  *line;
	char   reason[256];
	size_t count = 0;
	int	   number = 0;
	bool   good = copy != NULL;

	while (good && (line = outbox_config_next_line(&rest, &number)) != NULL)
	{
		if (++count > OUTBOX_DATABASES_MAX)
			snprintf(reason, sizeof(reason), "is one connection string too many: %d are the most",
					 OUTBOX_DATABASES_MAX);
		else if (outbox_conninfo_check(line, reason, sizeof(reason)))
			continue;
		snprintf(error, size, "line %d: %s", number, reason);
		good = false;
	}
	free(copy);
	return good;
}

int
outbox_database_list_check_online(const char *list, char *error, size_t size)
{
	static const char may_count[] =
		"SELECT CASE WHEN pg_catalog.to_regclass('outbox.topic_holds') IS NULL THEN"
		"  pg_catalog.format('database %I has no extension outbox', pg_catalog.current_database())"
		" WHEN NOT pg_catalog.bool_and("
		"pg_catalog.has_table_privilege(pg_catalog.to_regclass(v.name), 'SELECT')) THEN"
		"  pg_catalog.format('role %I may not count: SELECT outbox.grant_watch(%L)', current_user, "
		"current_user) END "
		"FROM (VALUES ('outbox.dead_letter_depth'), ('outbox.topic_holds')) v (name)";
	char *copy = strdup(list);
	char *rest = copy;
	char *conninfo;
	int	  code = EXIT_SUCCESS;

	while (code == EXIT_SUCCESS && (conninfo = outbox_config_next_item(&rest)) != NULL)
		code = outbox_online_database("databases", conninfo, may_count, error, size);
	free(copy);
	return code;
}
