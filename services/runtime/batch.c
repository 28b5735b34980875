/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.c
 *	  Records polled together as one database transaction.
 *
 * Runs in the services, member threads.  Two trips: BEGIN with outbox.begin_batch, which moves the
 * watermarks and claims the event ids; then, for what is new, the handlers' calls and COMMIT.  When
 * something fails all of it is rolled back; process.c runs the records before the culprit again and
 * makes the culprit a dead letter.  After such a failure the next batches have savepoints, so that
 * the records before another culprit need not run again: a third trip rolls back to the last
 * savepoint, trims the batch and commits it.
 */
#define _GNU_SOURCE
#include "batch.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "claim.h"
#include "consumer_log.h"
#include "context.h"
#include "dead_letter.h"
#include "item.h"
#include "settings.h"
#include "window.h"
#include "services/lib/array_text.h"
#include "services/lib/db_session.h"
#include "services/lib/text.h"

#define BEGIN_VALUES  16
#define WINDOW_VALUES 17 /* with part_done_to */
#define BEGIN_ARRAYS  14 /* values 1 .. 14 */
#define OLD_IDS		  14 /* of these, NULL when no record has one */
#define HOLD		  15
#define DONE_TO		  16 /* NULL: no record is above its partition's part_next */
#define TRIM_VALUES	  5

#define SAVEPOINT_SPACING 4 /* records between two savepoints */

static const char begin_sql[] =
	"SELECT outbox.begin_batch($1, $2::text[], $3::integer[], $4::bigint[], $5::bigint[],"
	" $6::integer[], $7::bigint[], $8::bytea[], $9::uuid[], $10::boolean[], $11::uuid[],"
	" $16::boolean, $12::integer[], $15::uuid[], $13::bigint[], $14::bigint[])";
static const char window_sql[] =
	"SELECT outbox.begin_batch($1, $2::text[], $3::integer[], $4::bigint[], $5::bigint[],"
	" $6::integer[], $7::bigint[], $8::bytea[], $9::uuid[], $10::boolean[], $11::uuid[],"
	" $16::boolean, $12::integer[], $15::uuid[], $13::bigint[], $14::bigint[], $17::bigint[])";
static const char trim_sql[] =
	"SELECT outbox.trim_batch($1, $2::text[], $3::integer[], $4::bigint[], $5::uuid[])";

bool
outbox_batch_add_old_id(OutboxArrayText *array, const OutboxRecord *record)
{
	char old_id[OUTBOX_UUID_TEXT];

	if (record->offset < record->source->old_ids_to)
	{
		outbox_record_old_id(record, old_id);
		if (strcasecmp(old_id, record->event_id) != 0)
		{
			outbox_array_add_text(array, old_id);
			return true;
		}
	}
	outbox_array_add_null(array);
	return false;
}

/* -1: NULL. */
static void
add_offset(OutboxArrayText *array, int64_t offset)
{
	if (offset < 0)
		outbox_array_add_null(array);
	else
		outbox_array_add_integer(array, offset);
}

/* Where the watermark goes, of records that are done in the order of their offsets. */
static void
add_next(OutboxItem **items, int from, int count, OutboxArrayText *arrays)
{
	OutboxPartition *partition = items[from]->record.source;
	int				 last = from;

	for (int i = from; i < count; i++)
		last = items[i]->record.source == partition ? i : last;
	outbox_array_add_integer(&arrays[4], items[last]->record.offset + 1);
	outbox_log_note_begun(partition, &items[last]->record);
	outbox_array_add_integer(&arrays[12], partition->begun.timestamp_ms);
	outbox_array_add_integer(&arrays[13], partition->begun.digest);
}

/* The same of the window's; true: some are above it. */
static bool
add_window_next(OutboxMember *member, const OutboxPartition *partition, OutboxArrayText *arrays,
				OutboxArrayText *done_to)
{
	OutboxWindowEnd end;

	outbox_window_end(member->window, partition, &end);
	outbox_array_add_integer(&arrays[4], end.next);
	if (end.moved)
	{
		outbox_array_add_integer(&arrays[12], end.last.timestamp_ms);
		outbox_array_add_integer(&arrays[13], end.last.digest);
	}
	else
	{
		outbox_array_add_null(&arrays[12]);
		outbox_array_add_null(&arrays[13]);
	}
	add_offset(done_to, end.done_to);
	return end.done_to >= 0;
}

/* The parameters of outbox.begin_batch: partitions first, then records. */
static void
make_begin_values(OutboxMember *member, OutboxItem **items, int count, char *values[WINDOW_VALUES])
{
	OutboxArrayText	 arrays[BEGIN_ARRAYS + 1]; /* arrays[0] is not used */
	OutboxArrayText	 done_to;
	OutboxPartition *partitions[count];
	int				 partition_count = 0;
	bool			 old_ids = false;
	bool			 above = false;

	values[0] = strdup(outbox_settings.group_id);
	values[HOLD] = strdup(outbox_settings.dlt_order == OUTBOX_ORDER_HOLD ? "t" : "f");
	for (int i = 1; i <= BEGIN_ARRAYS; i++)
		outbox_array_begin(&arrays[i]);
	outbox_array_begin(&done_to);
	for (int i = 0; i < count; i++)
	{
		const OutboxRecord *record = &items[i]->record;
		int					index = 0;

		while (index < partition_count && partitions[index] != record->source)
			index++;
		if (index == partition_count)
		{
			partitions[partition_count++] = record->source;
			outbox_array_add_text(&arrays[1], record->topic);
			outbox_array_add_integer(&arrays[2], record->partition);
			add_offset(&arrays[3], record->source->watermark);
			if (!items[i]->in_window)
				add_next(items, i, count, arrays);
			else
				above = add_window_next(member, record->source, arrays, &done_to) || above;
			outbox_array_add_integer(&arrays[11], record->source->log_no);
		}
		outbox_array_add_integer(&arrays[5], index + 1);
		outbox_array_add_integer(&arrays[6], record->offset);
		/* nothing holds a record that is stepped over */
		outbox_array_add_bytes(&arrays[7],
							   items[i]->verdict == OUTBOX_VERDICT_IGNORE ? NULL : record->key,
							   record->key_len);
		outbox_array_add_text(&arrays[8], record->event_id);
		outbox_array_add_text(&arrays[9],
							  items[i]->verdict == OUTBOX_VERDICT_CALL && !items[i]->held ? "t" :
																							"f");
		outbox_array_add_text(&arrays[10], record->claim_id);
		old_ids = outbox_batch_add_old_id(&arrays[OLD_IDS], record) || old_ids;
	}
	for (int i = 1; i <= BEGIN_ARRAYS; i++)
	{
		outbox_array_finish(&arrays[i]);
		values[i] = arrays[i].text;
	}
	outbox_array_finish(&done_to);
	values[DONE_TO] = done_to.text;
	if (!old_ids)
	{
		free(values[OLD_IDS]);
		values[OLD_IDS] = NULL;
	}
	if (!above)
	{
		free(values[DONE_TO]);
		values[DONE_TO] = NULL;
	}
}

/* First trip: BEGIN and outbox.begin_batch.  Fills the items' claim. */
static bool
begin_transaction(OutboxMember *member, OutboxItem **items, int count, bool *fenced)
{
	OutboxDb *db = &member->db;
	char	 *values[WINDOW_VALUES];
	PGresult *result;
	bool	  skipped;
	bool	  good;

	make_begin_values(member, items, count, values);
	good = outbox_db_send(db, "BEGIN", 0, NULL) &&
		(items[0]->in_window ?
			 outbox_db_send(db, window_sql, WINDOW_VALUES, (const char *const *) values) :
			 outbox_db_send(db, begin_sql, BEGIN_VALUES, (const char *const *) values)) &&
		outbox_db_sync(db);
	for (int i = 0; i < WINDOW_VALUES; i++)
		free(values[i]);
	if (!good)
		return false;
	result = outbox_db_result(db, &skipped);
	good = result != NULL;
	PQclear(result);
	result = outbox_db_result(db, &skipped);
	good = good && result != NULL;
	*fenced = good && PQgetisnull(result, 0, 0);
	if (good && !*fenced)
	{
		for (int i = 0; i < count; i++)
			items[i]->claim = outbox_claim_decode(PQgetvalue(result, 0, 0)[i]);
	}
	PQclear(result);
	return outbox_db_finish_sync(db) && good;
}

static bool
send_dead_letter(OutboxMember *member, const OutboxItem *item)
{
	char *values[OUTBOX_DEAD_LETTER_VALUES];
	bool  good;

	outbox_dead_letter_values(item, values);
	good = outbox_db_send(&member->db, outbox_dead_letter_sql, OUTBOX_DEAD_LETTER_VALUES,
						  (const char *const *) values);
	for (int i = 0; i < OUTBOX_DEAD_LETTER_VALUES; i++)
		free(values[i]);
	return good;
}

/* Does the item write a dead letter? */
static bool
is_dead_letter(const OutboxItem *item)
{
	return item->claim == OUTBOX_CLAIM_HELD ||
		(item->claim == OUTBOX_CLAIM_NEW &&
		 (item->verdict == OUTBOX_VERDICT_REJECT || item->verdict == OUTBOX_VERDICT_FAIL));
}

/* Sends the work of items [from, end); spacing 0: no savepoints. */
static bool
send_work(OutboxMember *member, OutboxItem **items, int from, int end, int spacing)
{
	OutboxDb *db = &member->db;
	bool	  good = true;

	for (int i = from; good && i < end; i++)
	{
		if (spacing > 0 && i % spacing == 0)
			good = outbox_db_send(db, "SAVEPOINT outbox_batch", 0, NULL);
		if (good && is_dead_letter(items[i]))
			good = send_dead_letter(member, items[i]);
		else if (good && outbox_item_is_call(items[i]))
			good = outbox_context_send(member, items[i]);
	}
	return good;
}

static bool
send_commit(OutboxDb *db)
{
	return outbox_db_send(db, "COMMIT", 0, NULL) && outbox_db_sync(db);
}

/* Reads one result; on the first failure notes the culprit, -1: no item is.  NULL on failure. */
static PGresult *
read_work(OutboxDb *db, int index, int *culprit, bool *good)
{
	bool	  skipped;
	PGresult *result = outbox_db_result(db, &skipped);

	if (result == NULL && *good)
	{
		*good = false;
		*culprit = index;
	}
	return result;
}

static void
take_answer(OutboxItem *item, const char *answer)
{
	if (outbox_item_is_call(item))
		outbox_text_copy(item->outcome, sizeof(item->outcome), answer);
	else
		outbox_text_copy(item->unpublished, sizeof(item->unpublished), answer);
}

/* Reads what send_work has sent. */
static void
read_items(OutboxMember *member, OutboxItem **items, int from, int end, int spacing, int *culprit,
		   bool *good)
{
	OutboxDb *db = &member->db;
	PGresult *result;

	for (int i = from; i < end; i++)
	{
		if (spacing > 0 && i % spacing == 0)
			PQclear(read_work(db, -1, culprit, good)); /* no record's fault: nothing is kept */
		if (!outbox_item_is_call(items[i]) && !is_dead_letter(items[i]))
			continue;
		result = read_work(db, i, culprit, good);
		if (result != NULL && PQntuples(result) == 1 && PQnfields(result) == 1)
			take_answer(items[i], PQgetvalue(result, 0, 0));
		PQclear(result);
	}
}

/* Reads what send_commit has sent; good: all before it was. */
static bool
finish_commit(OutboxDb *db, int *culprit, bool good)
{
	PGresult *result = read_work(db, -1, culprit, &good);

	if (result != NULL && strcmp(PQcmdStatus(result), "COMMIT") != 0)
	{
		outbox_error_set(&db->error, OUTBOX_FAILURE_RECORD, "40000",
						 "the transaction was rolled back");
		good = false;
	}
	PQclear(result);
	return outbox_db_finish_sync(db) && good;
}

/* Second trip. */
static bool
run_work(OutboxMember *member, OutboxItem **items, int count, int spacing, int *culprit)
{
	bool good = true;

	if (!send_work(member, items, 0, count, spacing) || !send_commit(&member->db))
		return false;
	read_items(member, items, 0, count, spacing, culprit, &good);
	return finish_commit(&member->db, culprit, good);
}

/* The parameters of outbox.trim_batch, when items [0, kept) stay. */
static void
make_trim_values(OutboxItem **items, int kept, int count, char *values[TRIM_VALUES])
{
	OutboxArrayText arrays[TRIM_VALUES]; /* arrays[0] is not used */

	values[0] = strdup(outbox_settings.group_id);
	for (int i = 1; i < TRIM_VALUES; i++)
		outbox_array_begin(&arrays[i]);
	for (int i = 0; i < count; i++)
	{
		const OutboxPartition *partition = items[i]->record.source;
		int64_t				   next = partition->watermark;
		bool				   first = true;

		for (int j = 0; j < i; j++)
			first = first && items[j]->record.source != partition;
		for (int j = 0; first && j < kept; j++)
		{
			if (items[j]->record.source == partition && items[j]->record.offset >= next)
				next = items[j]->record.offset + 1;
		}
		if (first)
		{
			outbox_array_add_text(&arrays[1], items[i]->record.topic);
			outbox_array_add_integer(&arrays[2], partition->partition);
			if (next < 0)
				outbox_array_add_null(&arrays[3]);
			else
				outbox_array_add_integer(&arrays[3], next);
		}
		if (i >= kept && outbox_item_is_call(items[i]))
			outbox_array_add_text(&arrays[4], items[i]->record.claim_id);
	}
	for (int i = 1; i < TRIM_VALUES; i++)
	{
		outbox_array_finish(&arrays[i]);
		values[i] = arrays[i].text;
	}
}

static bool
send_trim(OutboxMember *member, OutboxItem **items, int kept, int count)
{
	char *values[TRIM_VALUES];
	bool  good;

	make_trim_values(items, kept, count, values);
	good = outbox_db_send(&member->db, trim_sql, TRIM_VALUES, (const char *const *) values);
	for (int i = 0; i < TRIM_VALUES; i++)
		free(values[i]);
	return good;
}

/*
 * Third trip, after item `kept` has failed: commits the items before it.  false: nothing is
 * committed.
 */
static bool
keep_before(OutboxMember *member, OutboxItem **items, int kept, int count, int spacing)
{
	OutboxDb *db = &member->db;
	int		  from = kept - kept % spacing;
	int		  ignored;
	bool	  good = true;

	if (!outbox_db_send(db, "ROLLBACK TO SAVEPOINT outbox_batch", 0, NULL) ||
		!send_work(member, items, from, kept, 0) || !send_trim(member, items, kept, count) ||
		!send_commit(db))
		return false;
	PQclear(read_work(db, -1, &ignored, &good));
	read_items(member, items, from, kept, 0, &ignored, &good);
	PQclear(read_work(db, -1, &ignored, &good));
	return finish_commit(db, &ignored, good);
}

/*
 * Records between two savepoints; 0: none.  Of the window's a few are committed at once, and the
 * end of a batch of them is not trimmed.
 */
static int
choose_spacing(const OutboxMember *member, OutboxItem **items, int count)
{
	return member->cautious > 0 && count > 1 && !items[0]->in_window ? SAVEPOINT_SPACING : 0;
}

/*
 * Prepares every statement the batch may need; a failure is the schema's.  missing: of a record
 * alone the handler's is kept there, for it may not be called.
 */
static bool
prepare_statements(OutboxMember *member, OutboxItem **items, int count, int *culprit,
				   OutboxError *missing)
{
	OutboxDb *db = &member->db;

	if (!outbox_db_prepare(db, items[0]->in_window ? window_sql : begin_sql) ||
		!outbox_db_prepare(db, trim_sql) || !outbox_db_prepare(db, outbox_dead_letter_sql))
		return false;
	for (int i = 0; i < count; i++)
	{
		if (items[i]->verdict != OUTBOX_VERDICT_CALL || items[i]->held ||
			outbox_context_prepare(member, &items[i]->call))
			continue;
		if (count > 1 || db->conn == NULL || db->error.failure == OUTBOX_FAILURE_INFRASTRUCTURE)
		{
			*culprit = i;
			return false;
		}
		*missing = db->error;
		db->error.failure = OUTBOX_FAILURE_NONE;
	}
	return true;
}

/* What was to be held and is not: it must be called for first, so nothing is committed. */
static bool
mark_released(OutboxItem **items, int count)
{
	bool any = false;

	for (int i = 0; i < count; i++)
	{
		items[i]->again =
			items[i]->again || (items[i]->held && items[i]->claim == OUTBOX_CLAIM_NEW);
		any = any || items[i]->again;
	}
	return any;
}

OutboxDbFailure
outbox_batch_run(OutboxMember *member, OutboxItem **items, int count, int *culprit, int *done,
				 bool *fenced)
{
	OutboxDb   *db = &member->db;
	OutboxError error;
	OutboxError missing = {.failure = OUTBOX_FAILURE_NONE};
	int			spacing = choose_spacing(member, items, count);
	bool		released;
	bool		good;

	*culprit = -1;
	*done = 0;
	*fenced = false;
	for (int i = 0; i < count; i++)
		items[i]->claim = OUTBOX_CLAIM_NONE;
	db->error.failure = OUTBOX_FAILURE_NONE;
	if (!outbox_db_connect(db) || !prepare_statements(member, items, count, culprit, &missing) ||
		!outbox_db_begin_pipeline(db))
		return db->error.failure;
	good = begin_transaction(member, items, count, fenced);
	released = good && !*fenced && mark_released(items, count);
	if (!released && good && !*fenced && missing.failure != OUTBOX_FAILURE_NONE &&
		outbox_item_is_call(items[0]))
	{
		*culprit = 0;
		db->error = missing;
		good = false;
	}
	else if (good && !*fenced)
		good = run_work(member, items, count, spacing, culprit);
	error = db->error;
	if (good && !*fenced && !released)
		*done = count;
	else if (spacing > 0 && *culprit > 0 && error.failure != OUTBOX_FAILURE_INFRASTRUCTURE &&
			 error.failure != OUTBOX_FAILURE_DEPLOY)
		*done = keep_before(member, items, *culprit, count, spacing) ? *culprit : 0;
	outbox_db_end_pipeline(db);
	db->error = error;
	if (good)
		return OUTBOX_FAILURE_NONE;
	return error.failure != OUTBOX_FAILURE_NONE ? error.failure : OUTBOX_FAILURE_INFRASTRUCTURE;
}

OutboxDbFailure
outbox_batch_prove(OutboxMember *member, OutboxItem *item)
{
	OutboxDb   *db = &member->db;
	OutboxError error;
	bool		skipped;

	db->error.failure = OUTBOX_FAILURE_NONE;
	if (!outbox_db_connect(db) || !outbox_context_prepare(member, &item->call) ||
		!outbox_db_begin_pipeline(db))
		return db->error.failure;
	if (outbox_db_send(db, "BEGIN", 0, NULL) && outbox_context_send(member, item) &&
		outbox_db_sync(db))
	{
		PQclear(outbox_db_result(db, &skipped));
		PQclear(outbox_db_result(db, &skipped));
		outbox_db_finish_sync(db);
	}
	error = db->error;
	outbox_db_end_pipeline(db);
	db->error = error;
	return error.failure;
}
