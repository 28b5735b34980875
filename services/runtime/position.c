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
"SELECT topic, partition, next_offset FROM outbox.consumer_offsets($1)";

static bool
is_due(const OutboxPartition *partition, int64_t now)
{
	return partition->owned && !partition->active && partition->resume_at <= now;
}

static bool
any_due(OutboxMember *member, int64_t now)
{
	OutboxPartition *partition;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (is_due(partition, now))
			return true;
	}
	return false;
}

/* Reads the watermarks of all due partitions; false: member->db.error. */
static bool
read_watermarks(OutboxMember *member, int64_t now)
{
	const char *values[1] = {member->runtime->consumer};
	OutboxPartition *partition;
	PGresult   *result;

	if (!outbox_db_connect(&member->db))
		return false;
	result = outbox_db_query(&member->db, watermarks_sql, 1, values);
	if (result == NULL)
		return false;
	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!is_due(partition, now))
			continue;
		partition->watermark = -1;
		for (int row = 0; row < PQntuples(result); row++)
		{
			if (atoi(PQgetvalue(result, row, 1)) == partition->partition &&
				strcmp(PQgetvalue(result, row, 0), partition->topic) == 0)
				partition->watermark = strtoll(PQgetvalue(result, row, 2), NULL, 10);
		}
	}
	PQclear(result);
	return true;
}

/* false: Kafka did not answer. */
static bool
find_start(OutboxMember *member, OutboxPartition *partition, int64_t *start)
{
	int64_t		committed;
	int64_t		low;
	int64_t		high;

	if (partition->next >= 0)
	{
		*start = partition->next;
		return true;
	}
	if (!outbox_consumer_committed(member->consumer, partition, &committed))
		return false;
	if (committed >= 0)
	{
		*start = partition->watermark >= 0 && partition->watermark < committed
			? partition->watermark : committed;
		/* One transaction marker may lie between them; more means that work was undone. */
		if (committed > *start + 1)
			outbox_log(OUTBOX_LOG_INFO, "rewound", NULL, "%s [%d]: Kafka has offset %" PRId64
					   ", the database %" PRId64, partition->topic, (int) partition->partition,
					   committed, partition->watermark);
		return true;
	}
	if (!outbox_consumer_range(member->consumer, partition, &low, &high))
		return false;
	*start = low;
	if (partition->watermark >= low && partition->watermark <= high)
		*start = partition->watermark;
	return true;
}

/* The database does not answer: all due partitions wait. */
static void
postpone_due(OutboxMember *member, int64_t now)
{
	const OutboxError *error = &member->db.error;
	bool		halted = error->failure == OUTBOX_FAILURE_DEPLOY;
	OutboxPartition *partition;
	int64_t		pause = 0;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!is_due(partition, now))
			continue;
		partition->failures++;
		partition->halted = halted;
		if (pause == 0)
			pause = outbox_member_backoff(member, partition->failures);
		partition->resume_at = outbox_clock_ms() + pause;
	}
	outbox_count_failure(member, error->failure);
	outbox_log(halted ? OUTBOX_LOG_ERROR : OUTBOX_LOG_WARNING,
			   halted ? "partition_halted" : "waiting", NULL, "%s, SQLSTATE %s; again in %" PRId64 " ms",
			   error->message, error->sqlstate, pause);
}

void
outbox_position_start(OutboxMember *member)
{
	int64_t		now = outbox_clock_ms();
	OutboxPartition *partition;
	int64_t		start;

	if (!any_due(member, now))
		return;
	if (!read_watermarks(member, now))
	{
		postpone_due(member, now);
		return;
	}
	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!is_due(partition, now))
			continue;
		if (!find_start(member, partition, &start) ||
			!outbox_consumer_start(member->consumer, partition, start))
		{
			partition->resume_at = now + RETRY_SEEK_MS;
			continue;
		}
		outbox_log(OUTBOX_LOG_INFO, "partition_started", NULL, "%s [%d] from offset %" PRId64,
				   partition->topic, (int) partition->partition, start);
	}
}
