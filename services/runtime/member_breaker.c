/* SPDX-License-Identifier: PostgreSQL
 *
 * member_breaker.c
 *	  What the breaker makes of a member's records, and what it makes the member do.
 *
 * Runs in the services, member threads.
 */
#define _GNU_SOURCE
#include "member_breaker.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "breaker.h"
#include "consumer.h"
#include "record_log.h"
#include "service_metrics.h"
#include "settings.h"
#include "services/lib/bytea.h"
#include "services/lib/db_session.h"

static const char fingerprint_sql[] =
	"SELECT outbox.dead_letter_fingerprint($1, $2, $3, outbox.wire_text($4::bytea, 1023))";

/*
 * The fingerprint of a dead letter just written; when the database is away, its class and SQLSTATE.
 */
static void
find_fingerprint(OutboxMember *member, const OutboxError *error, char *text, size_t size)
{
	char	   *message = outbox_bytea_of_text(error->message);
	const char *values[4] = {
		outbox_settings.group_id,
		outbox_failure_name(error->failure),
		error->sqlstate[0] != '\0' ? error->sqlstate : NULL,
		message,
	};
	PGresult *result = NULL;

	snprintf(text, size, "%s %s", outbox_failure_name(error->failure), error->sqlstate);
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, fingerprint_sql, 4, values);
	if (result != NULL)
		snprintf(text, size, "%s", PQgetvalue(result, 0, 0));
	PQclear(result);
	free(message);
}

void
outbox_breaker_count(OutboxMember *member, const OutboxRecord *record, const OutboxError *error,
					 int64_t failing_ms)
{
	OutboxBreaker *breaker = &member->runtime->breaker;
	char		   fingerprint[64];

	if (breaker->limit == 0)
		return;
	find_fingerprint(member, error, fingerprint, sizeof(fingerprint));
	if (!outbox_breaker_dead(breaker, fingerprint, failing_ms))
		return;
	outbox_set_breaker(true);
	outbox_log_record(OUTBOX_LOG_ERROR, "breaker_open", record,
					  "%d dead letters in a row with fingerprint %s: paused, one record is tried "
					  "every %" PRId64 " ms; the last reason: %s",
					  breaker->limit, fingerprint, breaker->pause_ms, error->message);
}

void
outbox_breaker_record_done(OutboxMember *member)
{
	if (!outbox_breaker_success(&member->runtime->breaker))
		return;
	outbox_set_breaker(false);
	outbox_log(OUTBOX_LOG_INFO, "breaker_closed", "the record tried has succeeded: work goes on");
}

void
outbox_breaker_record_failed(OutboxMember *member, const OutboxRecord *record,
							 const OutboxError *error)
{
	outbox_breaker_again(&member->runtime->breaker);
	outbox_log_record(OUTBOX_LOG_WARNING, "breaker_stays_open", record,
					  "the record tried has failed: %s", error->message);
}

bool
outbox_breaker_pause(OutboxMember *member)
{
	OutboxBreaker	*breaker = &member->runtime->breaker;
	OutboxPartition *partition;

	if (outbox_breaker_state(breaker) != OUTBOX_BREAKER_PAUSED)
		return false;
	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (partition->active)
			outbox_consumer_suspend(member->consumer, partition, outbox_breaker_try_at(breaker));
	}
	return true;
}
