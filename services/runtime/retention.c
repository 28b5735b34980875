/* SPDX-License-Identifier: PostgreSQL
 *
 * retention.c
 *	  Warns when a topic keeps records longer than the claims of events are kept:
 *	  what is read again after that is processed again.
 *
 * Runs in the services, on the thread of the first member that is assigned, once.
 */
#define _GNU_SOURCE
#include "retention.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "consumer.h"
#include "services/lib/db_session.h"
#include "services/lib/log.h"

#define DAY_MS 86400000.0

static const char window_sql[] =
	"SELECT pg_catalog.round(extract(epoch FROM outbox.idempotency_retention()) * 1000)::bigint";

/* How long claims are kept, in ms; false: this database does not tell. */
static bool
read_window(OutboxMember *member, int64_t *window)
{
	PGresult *result = NULL;
	bool	  known;

	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, window_sql, 0, NULL);
	known = result != NULL && PQntuples(result) == 1;
	if (known)
		*window = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
	PQclear(result);
	return known;
}

static void
check_topic(OutboxMember *member, const char *topic, int64_t window)
{
	int64_t kept;
	char	text[32] = "for ever";

	if (!outbox_consumer_retention(member->consumer, topic, &kept) || (kept >= 0 && kept <= window))
		return;
	if (kept >= 0)
		snprintf(text, sizeof(text), "%.1f days", (double) kept / DAY_MS);
	outbox_log(OUTBOX_LOG_WARNING, "retention_exceeds_window",
			   "topic %s keeps records %s, outbox.idempotency_retention is %.1f days: what is read "
			   "again"
			   " later than that is processed again",
			   topic, text, (double) window / DAY_MS);
}

void
outbox_retention_check(OutboxMember *member)
{
	const OutboxHandler *handlers = member->runtime->handlers;
	int64_t				 window;

	if (!read_window(member, &window))
		return;
	for (int i = 0; handlers[i].topic != NULL; i++)
	{
		bool known = false;

		for (int j = 0; j < i; j++)
			known = known || strcmp(handlers[j].topic, handlers[i].topic) == 0;
		if (!known)
			check_topic(member, handlers[i].topic, window);
	}
}
