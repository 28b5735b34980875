/* SPDX-License-Identifier: PostgreSQL
 *
 * retry_run.c
 *	  Dead letters of one key as one transaction.
 *
 * Runs in the services, member threads.  Two trips: BEGIN, lock and claim; the handlers' calls,
 * resolve and COMMIT.
 */
#define _GNU_SOURCE
#include "retry_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "call.h"
#include "claim.h"
#include "context.h"
#include "settings.h"
#include "services/lib/array_text.h"
#include "services/lib/db_session.h"
#include "services/lib/text.h"

static const char next_sql[] =
	"SELECT id, attempts, topic, partition, \"offset\", key, value, headers, wait_ms, record_ms, "
	"crashes, failing_ms,"
	" troubles, trouble_ms, troubled_ms, alike, sqlstate, error_message, ends"
	" FROM outbox.dead_letter_next_run($1, $2::text[], $3::integer, $4::bigint[])";
static const char begin_sql[] =
	"SELECT outbox.dead_letter_begin_run($1::bigint[], $2::integer, $3::uuid[])";
static const char resolve_sql[] = "SELECT outbox.dead_letter_resolve_run($1::bigint[])";

static uint8_t *
read_bytes(const PGresult *result, int row, int column, size_t *len)
{
	unsigned char *unescaped;
	uint8_t		  *copy;

	*len = 0;
	if (PQgetisnull(result, row, column))
		return NULL;
	unescaped = PQunescapeBytea((const unsigned char *) PQgetvalue(result, row, column), len);
	copy = malloc(*len + 1);
	if (unescaped == NULL || copy == NULL)
		abort();
	memcpy(copy, unescaped, *len);
	PQfreemem(unescaped);
	return copy;
}

static int64_t
read_integer(const PGresult *result, int row, int column)
{
	return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

static void
read_row(const PGresult *result, int number, DueRow *row)
{
	OutboxRecord *record = &row->item.record;

	snprintf(row->id, sizeof(row->id), "%s", PQgetvalue(result, number, 0));
	row->topic = strdup(PQgetvalue(result, number, 2));
	row->key = read_bytes(result, number, 5, &record->key_len);
	row->value = read_bytes(result, number, 6, &record->value_len);
	record->header_memory = read_bytes(result, number, 7, &record->headers_len);
	record->topic = row->topic;
	record->key = row->key;
	record->value = row->value;
	record->headers = record->header_memory;
	record->partition = atoi(PQgetvalue(result, number, 3));
	record->offset = read_integer(result, number, 4);
	record->timestamp_ms = PQgetisnull(result, number, 9) ? -1 : read_integer(result, number, 9);
	row->failing_ms = read_integer(result, number, 11);
	outbox_record_identify(record);
}

static void
read_first(const PGresult *result, DueRun *run)
{
	const char *sqlstate = PQgetvalue(result, 0, 16);

	snprintf(run->attempts, sizeof(run->attempts), "%s", PQgetvalue(result, 0, 1));
	run->crashes = atoi(PQgetvalue(result, 0, 10));
	run->troubles = atoi(PQgetvalue(result, 0, 12));
	run->trouble_ms = read_integer(result, 0, 13);
	run->troubled_ms = read_integer(result, 0, 14);
	run->alike = PQgetvalue(result, 0, 15)[0] == 't';
	outbox_error_set(&run->last, OUTBOX_FAILURE_INFRASTRUCTURE, sqlstate,
					 PQgetvalue(result, 0, 17));
	run->ends = atoi(PQgetvalue(result, 0, 18));
	run->last.ended = run->ends > 0;
}

bool
outbox_run_fetch(OutboxMember *member, int most, const char *in_hand, DueRun *run, int64_t *wait_ms,
				 bool *error)
{
	char		number[16];
	const char *values[4] = {outbox_settings.group_id, member->topics, number, in_hand};
	PGresult   *result = NULL;
	bool		due = false;

	memset(run, 0, sizeof(*run));
	snprintf(number, sizeof(number), "%d", most);
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, next_sql, 4, values);
	*error = result == NULL;
	if (result == NULL)
		return false;
	if (PQntuples(result) > 0)
	{
		*wait_ms = read_integer(result, 0, 8);
		due = *wait_ms <= 0;
	}
	if (due)
	{
		run->rows = calloc((size_t) PQntuples(result), sizeof(DueRow));
		if (run->rows == NULL)
			abort();
		run->count = PQntuples(result);
		read_first(result, run);
		for (int i = 0; i < run->count; i++)
			read_row(result, i, &run->rows[i]);
	}
	PQclear(result);
	return due;
}

void
outbox_run_free(DueRun *run)
{
	for (int i = 0; i < run->count; i++)
	{
		DueRow *row = &run->rows[i];

		outbox_call_clear(&row->item.call);
		outbox_record_clear(&row->item.record);
		free(row->topic);
		free(row->key);
		free(row->value);
	}
	free(run->rows);
}

/* Outside the pipeline.  false: member->db.error. */
static bool
prepare_run(OutboxMember *member, const DueRun *run, int count)
{
	OutboxDb *db = &member->db;

	if (!outbox_db_connect(db) || !outbox_db_prepare(db, begin_sql) ||
		!outbox_db_prepare(db, resolve_sql))
		return false;
	for (int i = 0; i < count; i++)
	{
		if (!outbox_context_prepare(member, &run->rows[i].item.call))
			return false;
	}
	return true;
}

/* The ids of the first `count` rows, as an array's text; malloc'ed. */
static char *
list_ids(const DueRun *run, int count)
{
	OutboxArrayText ids;

	outbox_array_begin(&ids);
	for (int i = 0; i < count; i++)
		outbox_array_add_text(&ids, run->rows[i].id);
	outbox_array_finish(&ids);
	return ids.text;
}

/* NULL: it has failed; *good is false from then on. */
static PGresult *
read_result(OutboxDb *db, bool *good)
{
	bool	  skipped;
	PGresult *result = outbox_db_result(db, &skipped);

	*good = *good && result != NULL;
	return result;
}

/* First trip: BEGIN, lock and claim.  *locked: how many rows are. */
static bool
begin_run(OutboxMember *member, DueRun *run, int count, int *locked)
{
	OutboxDb	   *db = &member->db;
	OutboxArrayText claims;
	char		   *ids = list_ids(run, count);
	const char	   *values[3] = {ids, run->attempts, NULL};
	PGresult	   *result;
	bool			good;

	outbox_array_begin(&claims);
	for (int i = 0; i < count; i++)
		outbox_array_add_text(&claims, run->rows[i].item.record.claim_id);
	outbox_array_finish(&claims);
	values[2] = claims.text;
	good = outbox_db_send(db, "BEGIN", 0, NULL) && outbox_db_send(db, begin_sql, 3, values) &&
		outbox_db_sync(db);
	free(ids);
	free(claims.text);
	if (!good)
		return false;
	PQclear(read_result(db, &good));
	result = read_result(db, &good);
	*locked = 0;
	while (result != NULL && PQgetvalue(result, 0, 0)[*locked] != '\0')
	{
		run->rows[*locked].item.claim = outbox_claim_decode(PQgetvalue(result, 0, 0)[*locked]);
		(*locked)++;
	}
	PQclear(result);
	return outbox_db_finish_sync(db) && good;
}

/* Reads what a call has returned. */
static void
read_call(OutboxDb *db, OutboxItem *item, bool *good)
{
	PGresult *result = read_result(db, good);

	if (result != NULL)
		outbox_text_copy(item->outcome, sizeof(item->outcome),
						 PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	PQclear(result);
}

/* Second trip: the calls, resolve, COMMIT. */
static bool
finish_run(OutboxMember *member, DueRun *run, int count, int *culprit)
{
	OutboxDb   *db = &member->db;
	char	   *ids = list_ids(run, count);
	const char *values[1] = {ids};
	bool		good = true;

	for (int i = 0; good && i < count; i++)
		good = run->rows[i].item.claim != OUTBOX_CLAIM_NEW ||
			outbox_context_send(member, &run->rows[i].item);
	good = good && outbox_db_send(db, resolve_sql, 1, values) &&
		outbox_db_send(db, "COMMIT", 0, NULL) && outbox_db_sync(db);
	free(ids);
	if (!good)
		return false;
	for (int i = 0; i < count; i++)
	{
		if (run->rows[i].item.claim != OUTBOX_CLAIM_NEW)
			continue;
		read_call(db, &run->rows[i].item, &good);
		if (!good && *culprit < 0)
			*culprit = i;
	}
	PQclear(read_result(db, &good));
	PQclear(read_result(db, &good));
	return outbox_db_finish_sync(db) && good;
}

bool
outbox_run_try(OutboxMember *member, DueRun *run, int count, int *done, int *culprit, bool *begun)
{
	OutboxDb   *db = &member->db;
	OutboxError error;
	int			locked;
	bool		good;

	*culprit = -1;
	*done = 0;
	*begun = false;
	for (int i = 0; i < count; i++)
		run->rows[i].item.claim = OUTBOX_CLAIM_NONE;
	db->error.failure = OUTBOX_FAILURE_NONE;
	if (!prepare_run(member, run, count) || !outbox_db_begin_pipeline(db))
		return false;
	good = begin_run(member, run, count, &locked);
	if (good && locked > 0)
	{
		*begun = true;
		good = finish_run(member, run, locked, culprit);
	}
	if (good)
		*done = locked;
	error = db->error;
	outbox_db_end_pipeline(db);
	db->error = error;
	if (!good && error.failure == OUTBOX_FAILURE_NONE)
		db->error.failure = OUTBOX_FAILURE_INFRASTRUCTURE;
	return good;
}
