/* SPDX-License-Identifier: PostgreSQL
 *
 * retry.c
 *	  Tries the rows of outbox.dead_letter again that are due.
 *
 * Runs in the services, member threads.  Any member of the consumer takes any
 * row of its topics (SKIP LOCKED); the state is in the table, so a crash loses
 * nothing.  A row is one transaction of two trips: lock and claim; the handler's call,
 * resolve and COMMIT.  After a failure the next try is noted, or the dead letter is
 * published; a row that has to wait, or that this program has no handler for, is put
 * back for later and stops no other row.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "member.h"

#define LOOK_AGAIN_MS	2000		/* for rows another member has left */
#define NEXT_ROW_MS		100			/* after a row that has to wait */

static const char next_sql[] =
"SELECT id, attempts, topic, partition, \"offset\", key, value, headers, wait_ms,"
" record_ms, crashes, failing_ms FROM outbox.dead_letter_next($1, $2::text[])";
static const char put_back_sql[] = "SELECT outbox.dead_letter_put_back($1::bigint, $2::integer)";
static const char claim_sql[] = "SELECT outbox.dead_letter_begin($1::bigint, $2::integer, $3::uuid)";
static const char resolve_sql[] = "SELECT outbox.dead_letter_resolve($1::bigint)";
static const char failed_sql[] =
"SELECT outbox.dead_letter_failed($1::bigint, $2::integer, $3::boolean, $4::integer,"
" $5::integer, $6, $7, $8, $9::boolean)";

typedef struct DueRow
{
	char		id[24];
	char		attempts[16];
	int			crashes;		/* ends of the process while it tried this row */
	int64_t		failing_ms;		/* since it failed first */
	int64_t		later_ms;		/* to be put back for so long; 0: dealt with */
	OutboxItem	item;
	char	   *topic;
	uint8_t    *key;
	uint8_t    *value;
} DueRow;

static uint8_t *
read_bytes(const PGresult *result, int column, size_t *len)
{
	unsigned char *unescaped;
	uint8_t    *copy;

	*len = 0;
	if (PQgetisnull(result, 0, column))
		return NULL;
	unescaped = PQunescapeBytea((const unsigned char *) PQgetvalue(result, 0, column), len);
	copy = malloc(*len + 1);
	if (unescaped == NULL || copy == NULL)
		abort();
	memcpy(copy, unescaped, *len);
	PQfreemem(unescaped);
	return copy;
}

static void
read_row(const PGresult *result, DueRow *row)
{
	OutboxRecord *record = &row->item.record;

	memset(row, 0, sizeof(*row));
	snprintf(row->id, sizeof(row->id), "%s", PQgetvalue(result, 0, 0));
	snprintf(row->attempts, sizeof(row->attempts), "%s", PQgetvalue(result, 0, 1));
	row->topic = strdup(PQgetvalue(result, 0, 2));
	row->key = read_bytes(result, 5, &record->key_len);
	row->value = read_bytes(result, 6, &record->value_len);
	record->header_memory = read_bytes(result, 7, &record->headers_len);
	record->topic = row->topic;
	record->key = row->key;
	record->value = row->value;
	record->headers = record->header_memory;
	record->partition = atoi(PQgetvalue(result, 0, 3));
	record->offset = strtoll(PQgetvalue(result, 0, 4), NULL, 10);
	row->crashes = atoi(PQgetvalue(result, 0, 10));
	row->failing_ms = strtoll(PQgetvalue(result, 0, 11), NULL, 10);
	record->timestamp_ms = PQgetisnull(result, 0, 9) ? -1 : strtoll(PQgetvalue(result, 0, 9), NULL, 10);
	outbox_record_identify(record);
}

static void
free_row(DueRow *row)
{
	outbox_call_clear(&row->item.call);
	outbox_record_clear(&row->item.record);
	free(row->topic);
	free(row->key);
	free(row->value);
}

/* Fetches the next row; false: none is due, or the database failed (*error). */
static bool
fetch_due(OutboxMember *member, DueRow *row, bool *error)
{
	const char *values[2] = {member->runtime->consumer, member->topics};
	PGresult   *result = NULL;
	int64_t		wait = LOOK_AGAIN_MS;
	bool		due = false;

	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, next_sql, 2, values);
	*error = result == NULL;
	if (result == NULL)
		return false;
	if (PQntuples(result) > 0)
	{
		wait = strtoll(PQgetvalue(result, 0, 8), NULL, 10);
		due = wait <= 0;
		if (due)
			read_row(result, row);
	}
	member->retry_at = outbox_clock_ms() + (wait < LOOK_AGAIN_MS ? wait : LOOK_AGAIN_MS);
	PQclear(result);
	return due;
}

/* Runs a statement; copies its first value when `text` is not NULL. */
static bool
run_statement(OutboxDb *db, const char *sql, int count, const char *const *values,
			  char *text, size_t size)
{
	PGresult   *result = outbox_db_query(db, sql, count, values);

	if (result == NULL)
		return false;
	if (text != NULL)
		snprintf(text, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
	return true;
}

/* Outside the pipeline.  false: member->db.error. */
static bool
prepare_try(OutboxMember *member, const OutboxItem *item)
{
	OutboxDb   *db = &member->db;

	return outbox_db_connect(db) && outbox_db_prepare(db, claim_sql) && outbox_db_prepare(db, resolve_sql) &&
		outbox_context_prepare(member, &item->call);
}

static PGresult *
read_result(OutboxDb *db, bool *good)
{
	bool		skipped;
	PGresult   *result = outbox_db_result(db, &skipped);

	*good = *good && result != NULL;
	return result;
}

/* First trip: BEGIN, lock and claim. */
static bool
begin_try(OutboxMember *member, DueRow *row)
{
	OutboxDb   *db = &member->db;
	const char *values[3] = {row->id, row->attempts, row->item.record.claim_id};
	PGresult   *result;
	bool		good = true;

	if (!outbox_db_send(db, "BEGIN", 0, NULL) || !outbox_db_send(db, claim_sql, 3, values) ||
		!outbox_db_sync(db))
		return false;
	PQclear(read_result(db, &good));
	result = read_result(db, &good);
	/* x: somebody else has dealt with it */
	if (result != NULL)
		row->item.claim = PQgetisnull(result, 0, 0) ? 'x' : PQgetvalue(result, 0, 0)[0];
	PQclear(result);
	return outbox_db_finish_sync(db) && good;
}

/* Second trip: the call, resolve, COMMIT. */
static bool
finish_try(OutboxMember *member, DueRow *row)
{
	OutboxDb   *db = &member->db;
	OutboxItem *item = &row->item;
	const char *values[1] = {row->id};
	PGresult   *result;
	bool		good = true;

	if ((item->claim == 'n' && !outbox_context_send(member, item)) ||
		!outbox_db_send(db, resolve_sql, 1, values) || !outbox_db_send(db, "COMMIT", 0, NULL) ||
		!outbox_db_sync(db))
		return false;
	if (item->claim == 'n')
	{
		result = read_result(db, &good);
		if (result != NULL)
			snprintf(item->outcome, sizeof(item->outcome), "%s",
					 PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
		PQclear(result);
	}
	PQclear(read_result(db, &good));
	PQclear(read_result(db, &good));
	return outbox_db_finish_sync(db) && good;
}

/* The whole transaction, rolled back when it fails.  false: member->db.error. */
static bool
try_row(OutboxMember *member, DueRow *row)
{
	OutboxDb   *db = &member->db;
	OutboxError error;
	bool		good;

	db->error.failure = OUTBOX_FAILURE_NONE;
	if (!prepare_try(member, &row->item) || !outbox_db_begin_pipeline(db))
		return false;
	good = begin_try(member, row) && (row->item.claim == 'x' || finish_try(member, row));
	error = db->error;
	outbox_db_end_pipeline(db);
	db->error = error;
	if (!good && error.failure == OUTBOX_FAILURE_NONE)
		db->error.failure = OUTBOX_FAILURE_INFRASTRUCTURE;
	return good;
}

/* Notes the failed try; false: the database is away. */
static bool
note_failure(OutboxMember *member, DueRow *row, const OutboxError *error)
{
	const OutboxRuntime *runtime = member->runtime;
	char		retry_max[16];
	char		backoff[24];
	char		state[16];
	const char *values[9] = {
		row->id, row->attempts, error->failure == OUTBOX_FAILURE_RECORD ? "f" : "t",
		retry_max, backoff, outbox_failure_name(error->failure),
		error->sqlstate[0] != '\0' ? error->sqlstate : NULL, error->message,
		runtime->spring ? "t" : "f"
	};

	snprintf(retry_max, sizeof(retry_max), "%d", runtime->retry_max);
	snprintf(backoff, sizeof(backoff), "%ld", outbox_retry_backoff(runtime, atoi(row->attempts) + 1));
	if (!outbox_db_connect(&member->db) ||
		!run_statement(&member->db, failed_sql, 9, values, state, sizeof(state)))
		return false;
	if (state[0] != '\0')
	{
		outbox_span_end_process(&row->item.span, runtime->consumer, &row->item.record, error);
		outbox_dead_letter_report(member, &row->item.record, state, error, row->failing_ms);
	}
	return true;
}

/* What is needed is away: the row waits, and when the connection is lost the member with it. */
static void
wait_longer(OutboxMember *member, DueRow *row, const OutboxError *error)
{
	int64_t		pause = outbox_member_backoff(member, ++member->retry_failures);
	bool		connected = member->db.conn != NULL && PQstatus(member->db.conn) == CONNECTION_OK;

	member->retry_at = outbox_clock_ms() + (connected && row != NULL ? NEXT_ROW_MS : pause);
	if (row != NULL)
		row->later_ms = pause;
	outbox_count_failure(member, error->failure);
	outbox_log(error->failure == OUTBOX_FAILURE_DEPLOY ? OUTBOX_LOG_ERROR : OUTBOX_LOG_WARNING,
			   "retry_postponed", row != NULL ? &row->item.record : NULL, "%s", error->message);
}

static void
note_success(OutboxMember *member, const OutboxItem *item)
{
	if (item->claim == 'n')
	{
		outbox_span_end_process(&item->span, member->runtime->consumer, &item->record, NULL);
		outbox_count_outcome(member, item);
		outbox_breaker_record_done(member);
	}
	else if (item->claim == 'd')
		outbox_count_record(member, item->record.topic, "duplicate");
	if (item->claim != 'x')
		outbox_log(OUTBOX_LOG_INFO, "retry_done", &item->record, "outcome %s", item->outcome);
}

/* Fills verdict and call, or the error of a row that ends the process. */
static void
prepare_row(OutboxMember *member, DueRow *row, OutboxError *error)
{
	OutboxItem *item = &row->item;

	if (row->crashes >= member->runtime->crash_max)
	{
		outbox_crash_error(error, row->crashes);
		outbox_span_begin_record(&item->span, &item->record);
		item->verdict = OUTBOX_VERDICT_REJECT;
		return;
	}
	outbox_item_prepare(member, item);
	*error = item->call.error;
}

/* One try of a row.  false: what is needed is away, error says what. */
static bool
run_row(OutboxMember *member, DueRow *row, OutboxError *error)
{
	OutboxItem *item = &row->item;

	prepare_row(member, row, error);
	if (item->verdict == OUTBOX_VERDICT_WAIT)
		return false;
	if (item->verdict == OUTBOX_VERDICT_IGNORE)
	{
		row->later_ms = LOOK_AGAIN_MS;	/* for a member that has a handler, perhaps of a later version */
		return true;
	}
	if (item->verdict == OUTBOX_VERDICT_CALL)
	{
		if (try_row(member, row))
		{
			note_success(member, item);
			return true;
		}
		*error = member->db.error;
		if (error->failure == OUTBOX_FAILURE_INFRASTRUCTURE ||
			error->failure == OUTBOX_FAILURE_DEPLOY)
			return false;
	}
	if (outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_TRYING)
	{
		outbox_breaker_record_failed(member, &item->record, error);
		return true;
	}
	if (note_failure(member, row, error))
		return true;
	*error = member->db.error;
	return false;
}

/* Ends what fetch_due began; when the database is away, at the next turn. */
static bool
put_back(OutboxMember *member, int64_t later_ms)
{
	char		delay[24];
	const char *values[2] = {member->owed, delay};

	if (member->owed[0] == '\0')
		return true;
	snprintf(delay, sizeof(delay), "%" PRId64, later_ms);
	if (!outbox_db_connect(&member->db) ||
		!run_statement(&member->db, put_back_sql, 2, values, NULL, 0))
		return false;
	member->owed[0] = '\0';
	return true;
}

void
outbox_retry_run(OutboxMember *member)
{
	DueRow		row;
	OutboxError error;
	bool		failed;

	if (!put_back(member, 0))
	{
		wait_longer(member, NULL, &member->db.error);
		return;
	}
	if (!fetch_due(member, &row, &failed))
	{
		if (failed)
			wait_longer(member, NULL, &member->db.error);
		else
			member->retry_failures = 0;
		return;
	}
	snprintf(member->owed, sizeof(member->owed), "%s", row.id);
	if (run_row(member, &row, &error))
	{
		member->retry_failures = 0;
		member->retry_at = outbox_clock_ms();
	}
	else
		wait_longer(member, &row, &error);
	put_back(member, row.later_ms);
	free_row(&row);
}
