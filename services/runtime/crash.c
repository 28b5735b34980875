/* SPDX-License-Identifier: PostgreSQL
 *
 * crash.c
 *	  Finds the record that ends the process.
 *
 * Runs in the services, member threads.  A member notes in outbox.consumer_attempt
 * which partitions it works on and takes the note back when it leaves them.  Who
 * takes a partition and finds a note of another member runs one by one what that
 * one can have had in hand, and notes each record before it is decoded.  Nothing
 * is written while batches run.  Records whose calls may have been under way are
 * known one by one (judge.c notes them).
 */
#define _GNU_SOURCE
#include "crash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "consumer.h"
#include "settings.h"
#include "services/lib/db_session.h"
#include "services/lib/log.h"

#define ALONE_AT_ONCE 20 /* slow records must not keep the member from polling */

static const char take_sql[] = "SELECT outbox.take_partition($1, $2, $3::integer, $4)";
static const char note_sql[] =
	"SELECT outbox.note_attempt($1, $2, $3::integer, $4, $5::bigint, $6::uuid)";
static const char calls_sql[] = "SELECT unnest(outbox.attempt_calls($1, $2, $3::integer))";
static const char leave_sql[] =
	"SELECT outbox.leave_partition($1, $2, $3::integer, $4, $5::boolean)";

/*
 * One of the statements, with four values or more; fifth, sixth: of those that have them.  NULL:
 * member->db.error.
 */
static PGresult *
run_note(OutboxMember *member, const char *sql, const OutboxPartition *partition, const char *fifth,
		 const char *sixth)
{
	char		number[16];
	const char *values[6] =
		{outbox_settings.group_id, partition->topic, number, member->owner, fifth, sixth};

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	if (!outbox_db_connect(&member->db))
		return NULL;
	return outbox_db_query(&member->db, sql, sixth != NULL ? 6 : fifth != NULL ? 5 : 4, values);
}

static void
name_owner(OutboxMember *member)
{
	uint64_t random;

	if (getrandom(&random, sizeof(random), 0) != sizeof(random))
		abort(); /* only before the system has any randomness */
	snprintf(member->owner, sizeof(member->owner), "%016" PRIx64, random);
}

/* The member before did not end well: its calls that may have been under way. */
static bool
take_suspects(OutboxMember *member, OutboxPartition *partition)
{
	char		number[16];
	const char *values[3] = {outbox_settings.group_id, partition->topic, number};
	PGresult   *result;

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	result = outbox_db_query(&member->db, calls_sql, 3, values);
	if (result == NULL)
		return false;
	free(partition->suspects);
	partition->suspect_count = PQntuples(result);
	partition->suspects = calloc((size_t) partition->suspect_count + 1, sizeof(int64_t));
	if (partition->suspects == NULL)
		abort(); /* nothing is committed */
	for (int i = 0; i < partition->suspect_count; i++)
		partition->suspects[i] = strtoll(PQgetvalue(result, i, 0), NULL, 10);
	PQclear(result);
	return true;
}

bool
outbox_crash_take(OutboxMember *member, OutboxPartition *partition)
{
	PGresult *result;
	bool	  left_over;
	int		  alone;

	if (member->owner[0] == '\0')
		name_owner(member);
	result = run_note(member, take_sql, partition, NULL, NULL);
	if (result == NULL)
		return false;
	left_over = PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	if (left_over && partition->calls_out && !take_suspects(member, partition))
		return false;
	if (left_over && !partition->calls_out)
		partition->alone = outbox_settings.batch_max;
	partition->noted = true;
	alone = partition->calls_out ? partition->suspect_count : partition->alone;
	if (left_over && alone > 0)
		outbox_log(OUTBOX_LOG_INFO, "records_alone",
				   "%s [%d]: the member before did not end well, up to %d records are run one by "
				   "one",
				   partition->topic, (int) partition->partition, alone);
	return true;
}

bool
outbox_crash_is_suspect(const OutboxPartition *partition, int64_t offset)
{
	for (int i = 0; i < partition->suspect_count; i++)
	{
		if (partition->suspects[i] == offset)
			return true;
	}
	return false;
}

/* Takes those out that are before the offset, or at it. */
static void
remove_suspects(OutboxPartition *partition, int64_t before, int64_t at)
{
	int kept = 0;

	for (int i = 0; i < partition->suspect_count; i++)
	{
		if (partition->suspects[i] >= before && partition->suspects[i] != at)
			partition->suspects[kept++] = partition->suspects[i];
	}
	if (partition->suspect_count > 0 && kept == 0)
		outbox_log(OUTBOX_LOG_INFO, "records_together",
				   "%s [%d]: calls are made side by side again", partition->topic,
				   (int) partition->partition);
	partition->suspect_count = kept;
}

void
outbox_crash_acquit(OutboxPartition *partition, int64_t offset)
{
	remove_suspects(partition, partition->next, offset);
}

void
outbox_crash_error(OutboxError *error, int crashes)
{
	char text[96];

	snprintf(text, sizeof(text), "the process has ended %d times with this record in hand",
			 crashes);
	outbox_error_set(error, OUTBOX_FAILURE_CRASH, NULL, text);
}

bool
outbox_crash_note(OutboxMember *member, OutboxItem *item)
{
	char	  offset[24];
	PGresult *result;
	int		  crashes;

	if (item->prepared)
		return true; /* decoded before: it did no harm */
	snprintf(offset, sizeof(offset), "%" PRId64, item->record.offset);
	result = run_note(member, note_sql, item->record.source, offset, item->record.event_id);
	if (result == NULL)
		return false;
	crashes = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	if (crashes >= outbox_settings.crash_max)
	{
		outbox_crash_error(&item->call.error, crashes);
		item->tries = crashes;
		item->foreign = false;
		item->verdict = OUTBOX_VERDICT_REJECT;
		item->prepared = true;
	}
	return true;
}

void
outbox_crash_leave(OutboxMember *member, bool closing)
{
	OutboxPartition *partition;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!partition->noted || (partition->owned && !closing))
			continue;
		partition->noted = false;
		/* Without it the next member is careful in vain. */
		PQclear(run_note(member, leave_sql, partition,
						 partition->alone == 0 && partition->suspect_count == 0 ? "t" : "f", NULL));
	}
}

void
outbox_crash_end_alone(OutboxMember *member)
{
	OutboxPartition *partition;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!partition->active)
			continue;
		if (partition->suspect_count > 0)
			remove_suspects(partition,
							partition->drained && partition->unfinished == 0 ? INT64_MAX :
																			   partition->next,
							-1);
		if (!partition->drained || partition->alone == 0)
			continue;
		partition->alone = 0;
		outbox_log(OUTBOX_LOG_INFO, "records_together", "%s [%d]: records are run in batches again",
				   partition->topic, (int) partition->partition);
	}
}

int
outbox_crash_limit(OutboxMember *member)
{
	OutboxPartition *partition;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (partition->active && (partition->alone > 0 || partition->trouble.singly > 0) &&
			outbox_settings.batch_max > ALONE_AT_ONCE)
			return ALONE_AT_ONCE;
	}
	return outbox_settings.batch_max;
}
