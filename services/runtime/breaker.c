/* SPDX-License-Identifier: PostgreSQL
 *
 * breaker.c
 *	  Stops a consumer that makes dead letters only.
 *
 * Runs in the services, any thread.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "member.h"
#include "record_log.h"
#include "settings.h"
#include "services/lib/db_session.h"

static const char fingerprint_sql[] =
	"SELECT outbox.dead_letter_fingerprint($1, $2, $3, outbox.wire_text($4::bytea, 1023))";

void
outbox_breaker_init(OutboxBreaker *breaker, int limit, int64_t pause_ms)
{
	memset(breaker, 0, sizeof(*breaker));
	pthread_mutex_init(&breaker->lock, NULL);
	breaker->limit = limit;
	breaker->pause_ms = pause_ms;
	breaker->success_at = INT64_MIN;
}

OutboxBreakerState
outbox_breaker_state(OutboxBreaker *breaker)
{
	OutboxBreakerState state = OUTBOX_BREAKER_CLOSED;

	pthread_mutex_lock(&breaker->lock);
	if (breaker->open)
		state = outbox_clock_ms() < breaker->try_at ? OUTBOX_BREAKER_PAUSED : OUTBOX_BREAKER_TRYING;
	pthread_mutex_unlock(&breaker->lock);
	return state;
}

int64_t
outbox_breaker_try_at(OutboxBreaker *breaker)
{
	int64_t try_at;

	pthread_mutex_lock(&breaker->lock);
	try_at = breaker->try_at;
	pthread_mutex_unlock(&breaker->lock);
	return try_at;
}

int
outbox_breaker_room(OutboxBreaker *breaker)
{
	int room = INT_MAX;

	pthread_mutex_lock(&breaker->lock);
	if (breaker->limit > 0)
		room = breaker->limit - breaker->count;
	pthread_mutex_unlock(&breaker->lock);
	return room;
}

int64_t
outbox_breaker_success_at(OutboxBreaker *breaker)
{
	int64_t success_at;

	pthread_mutex_lock(&breaker->lock);
	success_at = breaker->success_at;
	pthread_mutex_unlock(&breaker->lock);
	return success_at;
}

bool
outbox_breaker_success(OutboxBreaker *breaker)
{
	bool closed;

	pthread_mutex_lock(&breaker->lock);
	closed = breaker->open;
	breaker->open = false;
	breaker->count = 0;
	breaker->success_at = outbox_clock_ms();
	pthread_mutex_unlock(&breaker->lock);
	return closed;
}

bool
outbox_breaker_dead(OutboxBreaker *breaker, const char *fingerprint, int64_t failing_ms)
{
	bool opened = false;

	pthread_mutex_lock(&breaker->lock);
	if (breaker->limit > 0 && !breaker->open &&
		outbox_clock_ms() - failing_ms >= breaker->success_at)
	{
		if (strcmp(fingerprint, breaker->fingerprint) != 0)
		{
			snprintf(breaker->fingerprint, sizeof(breaker->fingerprint), "%s", fingerprint);
			breaker->count = 0;
		}
		opened = ++breaker->count >= breaker->limit;
		if (opened)
		{
			breaker->open = true;
			breaker->count = 0;
			breaker->try_at = outbox_clock_ms() + breaker->pause_ms;
		}
	}
	pthread_mutex_unlock(&breaker->lock);
	return opened;
}

void
outbox_breaker_again(OutboxBreaker *breaker)
{
	pthread_mutex_lock(&breaker->lock);
	breaker->try_at = outbox_clock_ms() + breaker->pause_ms;
	pthread_mutex_unlock(&breaker->lock);
}

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
