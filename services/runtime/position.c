/* SPDX-License-Identifier: PostgreSQL
 *
 * position.c
 *	  Where a partition is to be read from, and its start.
 *
 * Runs in the services, member threads.  The same way after an assignment, a
 * failure and a watermark moved by another member:
 *
 *	  where this member knows what it has done, from there;
 *	  else from the smaller of Kafka's committed offset and the watermark;
 *	  without a committed offset from the watermark if it is in the log, else
 *	  from the log's beginning.
 *
 * Records read twice are harmless: outbox.begin_batch knows them by their ids.
 */
#define _GNU_SOURCE
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "member.h"

#define RETRY_SEEK_MS 20

static const char watermarks_sql[] =
"SELECT topic, partition, next_offset, round(idle_seconds * 1000)::bigint FROM outbox.consumer_offsets($1)";

/* Puts the suspended partitions that are due into `due`, when it is not NULL; returns their number. */
static size_t
collect_due(OutboxMember *member, OutboxPartition **due)
{
	int64_t		now = outbox_clock_ms();
	OutboxPartition *partition;
	size_t		count = 0;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!partition->owned || partition->active || partition->resume_at > now)
			continue;
		if (due != NULL)
			due[count] = partition;
		count++;
	}
	return count;
}

/* Also notes that this member works on them.  false: member->db.error. */
static bool
read_watermarks(OutboxMember *member, OutboxPartition **due, size_t count)
{
	const char *values[1] = {member->runtime->consumer};
	PGresult   *result;

	if (!outbox_db_connect(&member->db))
		return false;
	outbox_group_check(member);
	result = outbox_db_query(&member->db, watermarks_sql, 1, values);
	if (result == NULL)
		return false;
	for (size_t i = 0; i < count; i++)
	{
		due[i]->watermark = -1;
		for (int row = 0; row < PQntuples(result); row++)
		{
			if (atoi(PQgetvalue(result, row, 1)) == due[i]->partition &&
				strcmp(PQgetvalue(result, row, 0), due[i]->topic) == 0)
			{
				due[i]->watermark = strtoll(PQgetvalue(result, row, 2), NULL, 10);
				due[i]->progress_at = outbox_clock_ms() - strtoll(PQgetvalue(result, row, 3), NULL, 10);
			}
		}
	}
	PQclear(result);
	for (size_t i = 0; i < count; i++)
	{
		if (!due[i]->noted && !outbox_crash_take(member, due[i]))
			return false;
	}
	return true;
}

/* false: Kafka did not answer. */
static bool
find_start(OutboxMember *member, const OutboxPartition *partition, int64_t *start)
{
	int64_t		low;
	int64_t		high;

	if (partition->next >= 0)
		*start = partition->next;
	else if (partition->committed >= 0)
	{
		*start = partition->committed;
		if (partition->watermark >= 0 && partition->watermark < partition->committed)
			*start = partition->watermark;
		/* One transaction marker may lie between them; more means that work was undone. */
		if (partition->committed > *start + 1)
			outbox_log(OUTBOX_LOG_INFO, "rewound", NULL, "%s [%d]: Kafka has offset %" PRId64
					   ", the database %" PRId64, partition->topic, (int) partition->partition,
					   partition->committed, partition->watermark);
	}
	else if (partition->watermark < 0)
		*start = OUTBOX_OFFSET_BEGINNING;
	else
	{
		if (!outbox_consumer_range(member->consumer, partition, &low, &high))
			return false;
		*start = partition->watermark >= low && partition->watermark <= high
			? partition->watermark : OUTBOX_OFFSET_BEGINNING;
		outbox_log(OUTBOX_LOG_WARNING, "no_committed_offset", NULL, "%s [%d]: Kafka has none for the group, the"
				   " database offset %" PRId64 ": reading starts at %s; was the topic made anew, records before it"
				   " are not processed", partition->topic, (int) partition->partition, partition->watermark,
				   *start >= 0 ? "the database's" : "the log's beginning");
	}
	return true;
}

/* The database does not answer: all due partitions wait. */
static void
postpone_due(OutboxMember *member, OutboxPartition **due, size_t count)
{
	const OutboxError *error = &member->db.error;
	bool		halted = error->failure == OUTBOX_FAILURE_DEPLOY;
	int64_t		pause = outbox_member_backoff(member, due[0]->failures + 1);

	for (size_t i = 0; i < count; i++)
	{
		due[i]->failures++;
		due[i]->halted = halted;
		due[i]->resume_at = outbox_clock_ms() + pause;
	}
	outbox_count_failure(member, error->failure);
	outbox_log(halted ? OUTBOX_LOG_ERROR : OUTBOX_LOG_WARNING,
			   halted ? "partition_halted" : "waiting", NULL, "%s, SQLSTATE %s; again in %" PRId64 " ms",
			   error->message, error->sqlstate, pause);
}

void
outbox_position_start(OutboxMember *member)
{
	size_t		count = collect_due(member, NULL);
	OutboxPartition *due[count + 1];
	int64_t		start;

	if (count == 0)
		return;
	collect_due(member, due);
	if (!read_watermarks(member, due, count))
	{
		postpone_due(member, due, count);
		return;
	}
	if (!outbox_consumer_committed(member->consumer, due, count))
	{
		for (size_t i = 0; i < count; i++)
			due[i]->resume_at = outbox_clock_ms() + outbox_member_backoff(member, 1);
		return;
	}
	for (size_t i = 0; i < count; i++)
	{
		if (!find_start(member, due[i], &start) ||
			!outbox_consumer_start(member->consumer, due[i], start))
		{
			due[i]->resume_at = outbox_clock_ms() + RETRY_SEEK_MS;
			continue;
		}
		outbox_log(OUTBOX_LOG_DEBUG, "partition_started", NULL, "%s [%d] from offset %" PRId64,
				   due[i]->topic, (int) due[i]->partition, due[i]->next);
	}
	outbox_consumer_wake(member->consumer);
}
