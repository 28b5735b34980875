/* SPDX-License-Identifier: PostgreSQL
 *
 * maintain.c
 *	  Has the database forget claims older than outbox.idempotency_retention.
 *
 * Runs in the services, member threads; a database may have consumers and no relay.
 */
#include "maintain.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>

#include "services/lib/clock.h"
#include "services/lib/db_session.h"
#include "services/lib/log.h"

#define MAINTAIN_INTERVAL_MS (INT64_C(3600) * 1000)
#define MAINTAIN_AGAIN_MS	 1000
#define MAINTAIN_ROWS		 5000

static const char maintain_sql[] =
	"SELECT emptied, deleted FROM outbox.idempotency_maintain($1::integer)";

/* Takes the turn for the whole process; false: it is not time, or another member has it. */
static bool
take_turn(OutboxRuntime *runtime)
{
	int64_t now = outbox_clock_ms();
	int64_t at = runtime->maintain_at;

	return now >= at &&
		atomic_compare_exchange_strong(&runtime->maintain_at, &at, now + MAINTAIN_INTERVAL_MS);
}

void
outbox_maintain_run(OutboxMember *member)
{
	char		rows[16];
	const char *values[1] = {rows};
	PGresult   *result = NULL;
	int			emptied;
	int			deleted;

	if (!take_turn(member->runtime))
		return;
	snprintf(rows, sizeof(rows), "%d", MAINTAIN_ROWS);
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, maintain_sql, 1, values);
	if (result == NULL)
	{
		outbox_log(OUTBOX_LOG_WARNING, "maintain_failed", "%s", member->db.error.message);
		return;
	}
	emptied = atoi(PQgetvalue(result, 0, 0));
	deleted = atoi(PQgetvalue(result, 0, 1));
	PQclear(result);
	if (emptied > 0 || deleted > 0)
		outbox_log(OUTBOX_LOG_INFO, "claims_forgotten", "%d leaves emptied, %d rows deleted",
				   emptied, deleted);
	if (deleted == MAINTAIN_ROWS)
		member->runtime->maintain_at = outbox_clock_ms() + MAINTAIN_AGAIN_MS;
}
