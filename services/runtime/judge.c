/* SPDX-License-Identifier: PostgreSQL
 *
 * judge.c
 *	  Asks the database before handlers call out.
 *
 * Runs in the services, member threads.  Nothing is decided here: outbox.begin_batch judges each
 * record again in its transaction.
 */
#define _GNU_SOURCE
#include "judge.h"

#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "settings.h"
#include "services/lib/array_text.h"
#include "services/lib/db_session.h"

#define CALLS_VALUES 13

static const char calls_sql[] =
	"SELECT outbox.begin_calls($1, $2, $3::text[], $4::integer[], $5::integer[], $6::bigint[],"
	" $7::bytea[], $8::uuid[], $9::uuid[], $13::boolean, $10::uuid[], $11::integer[], "
	"$12::bigint[])";
static const char letter_sql[] = "SELECT outbox.dead_letter_claimed($1::bigint, $2::uuid)";

/* The arrays of outbox.begin_calls. */
typedef struct Question
{
	OutboxArrayText	  topics;
	OutboxArrayText	  numbers;
	OutboxArrayText	  parts;
	OutboxArrayText	  offsets;
	OutboxArrayText	  keys;
	OutboxArrayText	  event_ids;
	OutboxArrayText	  ids;
	OutboxArrayText	  old_ids;
	OutboxArrayText	  noted_parts;
	OutboxArrayText	  noted;
	OutboxPartition **partitions; /* those of topics and numbers */
	int				  partition_count;
} Question;

/* Its number in the question, counted from 1. */
static int
number_partition(Question *question, OutboxPartition *partition)
{
	for (int i = 0; i < question->partition_count; i++)
	{
		if (question->partitions[i] == partition)
			return i + 1;
	}
	outbox_array_add_text(&question->topics, partition->topic);
	outbox_array_add_integer(&question->numbers, partition->partition);
	question->partitions[question->partition_count++] = partition;
	return question->partition_count;
}

/* Of the partitions asked about: the other calls under way, and those to be made alone. */
static void
add_noted(Question *question, const OutboxWindow *window)
{
	for (int i = 0; i < question->partition_count; i++)
	{
		const OutboxPartition *partition = question->partitions[i];

		for (int j = 0; j < partition->suspect_count; j++)
		{
			outbox_array_add_integer(&question->noted_parts, i + 1);
			outbox_array_add_integer(&question->noted, partition->suspects[j]);
		}
		for (int j = 0; j < window->count; j++)
		{
			const OutboxEntry *entry = window->entries[j];

			if (entry->partition != partition || entry->state == OUTBOX_ENTRY_READ ||
				entry->state == OUTBOX_ENTRY_DONE)
				continue;
			outbox_array_add_integer(&question->noted_parts, i + 1);
			outbox_array_add_integer(&question->noted, entry->anchor.offset);
		}
	}
}

static void
finish_array(OutboxArrayText *array, char **value)
{
	outbox_array_finish(array);
	*value = array->text;
}

/* The parameters of calls_sql. */
static void
make_values(OutboxMember *member, OutboxEntry **entries, int count, char *values[CALLS_VALUES])
{
	OutboxPartition		  *partitions[count];
	Question			   question = {.partitions = partitions};
	OutboxArrayText *const arrays[] = {&question.topics,  &question.numbers, &question.parts,
									   &question.offsets, &question.keys,	 &question.event_ids,
									   &question.ids,	  &question.old_ids, &question.noted_parts,
									   &question.noted};
	bool				   old_ids = false;

	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		outbox_array_begin(arrays[i]);
	for (int i = 0; i < count; i++)
	{
		const OutboxRecord *record = &entries[i]->item.record;

		outbox_array_add_integer(&question.parts,
								 number_partition(&question, entries[i]->partition));
		outbox_array_add_integer(&question.offsets, record->offset);
		outbox_array_add_bytes(&question.keys, record->key, record->key_len);
		outbox_array_add_text(&question.event_ids, record->event_id);
		outbox_array_add_text(&question.ids, record->claim_id);
		old_ids = outbox_batch_add_old_id(&question.old_ids, record) || old_ids;
	}
	add_noted(&question, member->window);
	values[0] = strdup(outbox_settings.group_id);
	values[1] = strdup(member->owner);
	for (size_t i = 0; i < sizeof(arrays) / sizeof(arrays[0]); i++)
		finish_array(arrays[i], &values[2 + i]);
	values[CALLS_VALUES - 1] = strdup(outbox_settings.dlt_order == OUTBOX_ORDER_HOLD ? "t" : "f");
	if (!old_ids)
	{
		free(values[9]);
		values[9] = NULL;
	}
}

bool
outbox_judge_records(OutboxMember *member, OutboxEntry **entries, int count)
{
	char	 *values[CALLS_VALUES];
	PGresult *result = NULL;

	make_values(member, entries, count, values);
	if (outbox_db_connect(&member->db))
		result =
			outbox_db_query(&member->db, calls_sql, CALLS_VALUES, (const char *const *) values);
	for (int i = 0; i < CALLS_VALUES; i++)
		free(values[i]);
	for (int i = 0; result != NULL && i < count; i++)
		entries[i]->item.claim = outbox_claim_decode(PQgetvalue(result, 0, 0)[i]);
	PQclear(result);
	return result != NULL;
}

/* Runs a handler's ask for the items; NULL: member->db.error. */
static PGresult *
run_ask(OutboxMember *member, const OutboxItem **items, int count)
{
	OutboxArrayText array;
	const char	   *values[1];
	PGresult	   *result = NULL;

	outbox_array_begin(&array);
	for (int i = 0; i < count; i++)
		outbox_array_add_text(&array, items[i]->call.count > 0 ? items[i]->call.values[0] : NULL);
	outbox_array_finish(&array);
	values[0] = array.text;
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, items[0]->handler->call_out->ask, 1, values);
	free(array.text);
	if (result != NULL && PQntuples(result) != count)
	{
		outbox_error_set(&member->db.error, OUTBOX_FAILURE_DEPLOY, NULL,
						 "the handler's ask has not answered with a row for each record");
		PQclear(result);
		return NULL;
	}
	return result;
}

static char *
read_told(const PGresult *result, int row)
{
	return PQgetisnull(result, row, 0) ? NULL : strdup(PQgetvalue(result, row, 0));
}

bool
outbox_judge_ask(OutboxMember *member, OutboxEntry **entries, int count)
{
	const OutboxItem *items[count];
	PGresult		 *result;

	for (int i = 0; i < count; i++)
		items[i] = &entries[i]->item;
	result = run_ask(member, items, count);
	for (int i = 0; result != NULL && i < count; i++)
	{
		free(entries[i]->told);
		entries[i]->told = read_told(result, i);
	}
	PQclear(result);
	return result != NULL;
}

bool
outbox_judge_ask_item(OutboxMember *member, const OutboxItem *item, char **told)
{
	PGresult *result;

	*told = NULL;
	if (item->handler->call_out->ask == NULL)
		return true;
	result = run_ask(member, &item, 1);
	if (result != NULL)
		*told = read_told(result, 0);
	PQclear(result);
	return result != NULL;
}

bool
outbox_judge_letter(OutboxMember *member, const char *letter, const OutboxItem *item,
					bool *processed)
{
	const char *values[2] = {letter, item->record.claim_id};
	PGresult   *result = NULL;

	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, letter_sql, 2, values);
	*processed = result != NULL && PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	return result != NULL;
}
