/* SPDX-License-Identifier: PostgreSQL
 *
 * trouble.c
 *	  Tells a record that fails for itself alone from a database that is away.
 *
 * Runs in the services, member threads.  A record that was in hand when its session ended, or whose
 * call failed with what is waited for, is run alone, in new sessions; the others of the batch go
 * on.  Each try is noted before it is made, in a transaction of its own.  When that one succeeds
 * and the record's does not, OUTBOX_TROUBLE_TRIES times over crash_after_seconds, and its session
 * has ended each time or others have been done just before the last try, the record is the cause.
 * A try counts that has come to the record's call.
 */
#define _GNU_SOURCE
#include "trouble.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "batch.h"
#include "breaker.h"
#include "item.h"
#include "record_log.h"
#include "settings.h"
#include "trouble_plan.h"
#include "window.h"
#include "services/lib/backoff.h"
#include "services/lib/bytea.h"
#include "services/lib/clock.h"
#include "services/lib/db_session.h"

#define PROOFS_MAX 3 /* other records asked at once: the member must poll */

static const char note_sql[] =
	"SELECT * FROM outbox.note_trouble($1, $2, $3::integer, $4::bigint, $5::uuid,"
	" $6::integer, $7::bigint, $8, outbox.wire_text($9::bytea, 1023), $10::boolean, $11::boolean, "
	"$12::bigint)";
static const char read_sql[] = "SELECT * FROM outbox.partition_trouble($1, $2, $3::integer)";
static const char end_sql[] = "SELECT outbox.end_trouble($1, $2, $3::integer, $4::bigint)";

static bool
is_same(const OutboxTrouble *trouble, const OutboxRecord *record)
{
	return trouble->known && trouble->offset == record->offset &&
		strcmp(trouble->event_id, record->event_id) == 0;
}

/* Runs a statement about the partition, in a transaction of its own.  NULL: member->db.error. */
static PGresult *
run_about(OutboxMember *member, const char *sql, const OutboxPartition *partition, int count,
		  const char **values)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	values[0] = outbox_settings.group_id;
	values[1] = partition->topic;
	values[2] = number;
	return outbox_db_connect(&member->db) ? outbox_db_query(&member->db, sql, count, values) : NULL;
}

/* What is left of a record that is done says nothing: the watermark is beyond. */
static void
end_trouble(OutboxMember *member, OutboxPartition *partition)
{
	OutboxTrouble *trouble = &partition->trouble;
	char		   offset[24];
	const char	  *values[4] = {NULL, NULL, NULL, offset};

	snprintf(offset, sizeof(offset), "%" PRId64, trouble->offset);
	if (trouble->tries > 0)
		PQclear(run_about(member, end_sql, partition, 4, values));
	*trouble = (OutboxTrouble) {.singly = trouble->singly};
}

bool
outbox_trouble_take(OutboxMember *member, OutboxPartition *partition)
{
	OutboxTrouble *trouble = &partition->trouble;
	const char	  *values[3];
	PGresult	  *result = run_about(member, read_sql, partition, 3, values);

	if (result == NULL)
		return false;
	memset(trouble, 0, sizeof(*trouble));
	if (PQntuples(result) > 0)
	{
		trouble->offset = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
		snprintf(trouble->event_id, sizeof(trouble->event_id), "%s", PQgetvalue(result, 0, 1));
		outbox_error_set(&trouble->error, OUTBOX_FAILURE_INFRASTRUCTURE, PQgetvalue(result, 0, 2),
						 PQgetvalue(result, 0, 3));
		trouble->error.ended = PQgetvalue(result, 0, 4)[0] == 't';
		trouble->tries = atoi(PQgetvalue(result, 0, 5));
		trouble->since = outbox_clock_ms();
		trouble->known = trouble->noted = true;
	}
	PQclear(result);
	if (trouble->known && trouble->offset < partition->watermark)
		end_trouble(member, partition);
	return true;
}

/* The items of a batch whose session has ended, or that failed at its end, are run one by one. */
static void
run_singly(OutboxItem **items, int count)
{
	for (int i = 0; i < count; i++)
		items[i]->record.source->trouble.singly = 0;
	for (int i = 0; i < count; i++)
		items[i]->record.source->trouble.singly++;
}

/* Which item's failure it is; NULL: nobody's, or not known. */
static OutboxItem *
find_item(OutboxItem **items, int count, int culprit, const OutboxError *error)
{
	OutboxItem *found = NULL;
	int			calls = 0;

	if (culprit >= 0 && !error->ended)
		return outbox_item_is_call(items[culprit]) ? items[culprit] : NULL;
	for (int i = 0; i < count; i++)
	{
		if (outbox_item_is_call(items[i]))
		{
			found = items[i];
			calls++;
		}
	}
	return calls == 1 ? found : NULL;
}

/*
 * Of the window's records more than one may be in trouble; they are looked into one after another,
 * each until it is done.
 */
static bool
is_second(const OutboxMember *member, const OutboxItem *item)
{
	const OutboxPartition *partition = item->record.source;

	return item->in_window && partition->trouble.known &&
		!is_same(&partition->trouble, &item->record) &&
		outbox_window_waits(member->window, partition, partition->trouble.offset);
}

/* The item's call has failed; singly: there was no other in the transaction. */
static void
note_failed(const OutboxItem *item, const OutboxError *error, bool singly)
{
	OutboxTrouble *trouble = &item->record.source->trouble;

	if (!is_same(trouble, &item->record))
	{
		*trouble = (OutboxTrouble) {.known = true,
									.offset = item->record.offset,
									.singly = trouble->singly};
		memcpy(trouble->event_id, item->record.event_id, sizeof(trouble->event_id));
	}
	if (trouble->tries + trouble->failed == 0)
		trouble->since = outbox_clock_ms();
	if (singly && !trouble->noted && outbox_trouble_counts(error))
		trouble->failed++;
	trouble->noted = false;
	trouble->proven = trouble->proven && outbox_trouble_counts(error);
	trouble->error = *error;
}

OutboxItem *
outbox_trouble_find(OutboxMember *member, OutboxItem **items, int count, int culprit)
{
	const OutboxError *error = &member->db.error;
	OutboxItem		  *item;

	if (items[0]->claim == OUTBOX_CLAIM_NONE)
		return NULL; /* nothing was run */
	item = find_item(items, count, culprit, error);
	if (item == NULL)
	{
		if (count > 1 && (error->ended || culprit < 0))
			run_singly(items, count);
		return NULL;
	}
	if (!is_second(member, item))
		note_failed(item, error, count == 1);
	outbox_log_record(OUTBOX_LOG_WARNING, "waiting", &item->record, "%s%s%s", error->message,
					  error->sqlstate[0] != '\0' ? ", SQLSTATE " : "", error->sqlstate);
	return item;
}

int64_t
outbox_trouble_wait(OutboxMember *member, const OutboxPartition *partition)
{
	const OutboxTrouble *trouble = &partition->trouble;
	bool				 counts = outbox_trouble_counts(&trouble->error);
	int64_t backoff = outbox_backoff(&member->random_state,
									 counts ? (unsigned) (trouble->tries + trouble->failed) :
											  partition->failures);

	if (!counts || trouble->unproven)
		return backoff;
	return outbox_trouble_pause(trouble->tries + trouble->failed,
								outbox_clock_ms() - trouble->since, trouble->error.ended, backoff,
								1000 * outbox_settings.crash_after_seconds,
								(unsigned) rand_r(&member->random_state));
}

bool
outbox_trouble_is(const OutboxItem *item)
{
	return is_same(&item->record.source->trouble, &item->record);
}

/* Can the item be run for proof? */
static bool
can_prove(OutboxMember *member, const OutboxTrouble *trouble, OutboxItem *item)
{
	const OutboxPartition *partition = item->record.source;

	if (!partition->active || partition->alone > 0 || item->done || item->held ||
		is_same(&partition->trouble, &item->record))
		return false;
	if (&partition->trouble == trouble && item->record.offset < trouble->proof_from)
		return false;
	if (!item->prepared)
		outbox_item_prepare(member, item);
	return item->verdict == OUTBOX_VERDICT_CALL;
}

/*
 * Runs other records in hand and rolls them back: does one of them not fail?  Which are asked
 * changes from time to time.  One that is refused may not have come to what ails the database.
 */
static bool
ask_others(OutboxMember *member, OutboxItem *item, bool *asked)
{
	OutboxTrouble *trouble = &item->record.source->trouble;
	int			   proofs = 0;

	for (int i = 0; i < member->in_hand_count && proofs < PROOFS_MAX && !member->runtime->stopping;
		 i++)
	{
		OutboxItem	   *other = member->in_hand[i];
		OutboxDbFailure failure;

		if (other == item || !can_prove(member, trouble, other))
			continue;
		failure = outbox_batch_prove(member, other);
		proofs++;
		if (failure == OUTBOX_FAILURE_NONE)
			return true;
		if (failure == OUTBOX_FAILURE_INFRASTRUCTURE)
			*asked = trouble->refuted = true; /* in a database in trouble SQLSTATEs differ */
		if (other->record.source == item->record.source)
			trouble->proof_from = other->record.offset + 1;
		if (member->db.error.ended)
			return false;
	}
	if (proofs == 0 && trouble->proof_from > 0)
	{
		trouble->proof_from = 0; /* from the beginning, the next time */
		*asked = *asked || trouble->refuted;
		trouble->refuted = false;
	}
	else if (proofs == PROOFS_MAX || member->runtime->stopping)
		*asked = true; /* there are more */
	return false;
}

/*
 * Does the database work for others, just before the record is tried once more?  The note of the
 * try is enough where there is nobody else to ask.
 */
static bool
is_proven(OutboxMember *member, OutboxItem *item)
{
	OutboxTrouble *trouble = &item->record.source->trouble;
	bool		   asked = false;

	/*
	 * The note, and what begins the record's transaction, are written: the server is not read-only.
	 */
	if (strcmp(trouble->error.sqlstate, "25006") == 0 || trouble->works ||
		(trouble->tried_at > 0 &&
		 outbox_breaker_success_at(&member->runtime->breaker) > trouble->tried_at) ||
		ask_others(member, item, &asked))
		return true;
	return !asked && !trouble->alike;
}

/* Notes the try that is to come.  false: member->db.error. */
static bool
note_try(OutboxMember *member, OutboxItem *item)
{
	OutboxTrouble *trouble = &item->record.source->trouble;
	char		   offset[24];
	char		   failed[16];
	char		   failed_ms[24];
	char		   tried_ms[24];
	char		  *message = outbox_bytea_of_text(trouble->error.message);
	const char	  *values[12] = {
		NULL,
		NULL,
		NULL,
		offset,
		trouble->event_id,
		failed,
		failed_ms,
		trouble->error.sqlstate[0] != '\0' ? trouble->error.sqlstate : NULL,
		message,
		trouble->error.ended ? "t" : "f",
		trouble->noted ? "f" : "t",
		trouble->tried_at > 0 ? tried_ms : NULL,
	};
	PGresult *result;

	snprintf(offset, sizeof(offset), "%" PRId64, trouble->offset);
	snprintf(failed, sizeof(failed), "%d", trouble->failed);
	snprintf(failed_ms, sizeof(failed_ms), "%" PRId64,
			 trouble->failed > 0 ? outbox_clock_ms() - trouble->since : 0);
	snprintf(tried_ms, sizeof(tried_ms), "%" PRId64, outbox_clock_ms() - trouble->tried_at);
	outbox_db_renew(&member->db);
	result = run_about(member, note_sql, item->record.source, 12, values);
	free(message);
	if (result == NULL)
		return false;
	trouble->failed = 0;
	trouble->tries = atoi(PQgetvalue(result, 0, 0)) + 1;
	trouble->ends = atoi(PQgetvalue(result, 0, 1));
	trouble->since = outbox_clock_ms() - strtoll(PQgetvalue(result, 0, 2), NULL, 10);
	trouble->alike = PQgetvalue(result, 0, 3)[0] == 't';
	trouble->works = PQgetvalue(result, 0, 4)[0] == 't';
	trouble->noted = true;
	item->record.source->failures = 0; /* the database is there */
	PQclear(result);
	return true;
}

bool
outbox_trouble_note(OutboxMember *member, OutboxItem *item)
{
	OutboxTrouble *trouble = &item->record.source->trouble;
	int64_t		   failing_ms;
	bool		   failed = !trouble->noted; /* else proof is of a try that was not made */

	item->claim = OUTBOX_CLAIM_NONE;
	if (!outbox_trouble_counts(&trouble->error))
		return true;
	if (!note_try(member, item))
		return false;
	failing_ms = outbox_clock_ms() - trouble->since;
	if (trouble->tries > OUTBOX_TROUBLE_TRIES &&
		failing_ms >= 1000 * outbox_settings.crash_after_seconds)
	{
		if (trouble->ends >= OUTBOX_TROUBLE_TRIES || (trouble->proven && failed))
		{
			outbox_trouble_error(&item->call.error, &trouble->error, trouble->tries - 1,
								 failing_ms);
			item->tries = trouble->tries - 1;
			item->verdict = OUTBOX_VERDICT_REJECT;
		}
		else
		{
			trouble->proven = is_proven(member, item);
			trouble->unproven = !trouble->proven;
		}
	}
	trouble->tried_at = outbox_clock_ms();
	return true;
}

void
outbox_trouble_done(OutboxMember *member, const OutboxRecord *record)
{
	OutboxPartition *partition = record->source;

	if (partition->trouble.known &&
		(partition->next > partition->trouble.offset || is_same(&partition->trouble, record)))
		end_trouble(member, partition);
}
