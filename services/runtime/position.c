/* SPDX-License-Identifier: PostgreSQL
 *
 * position.c
 *	  Where a partition is to be read from, and its start.
 *
 * Runs in the services, member threads.  The same way after an assignment, a
 * failure, a lost position and a watermark moved by another member:
 *
 *	  where this member knows what it has done, from there; else from the smaller of Kafka's
 *	  committed offset and the watermark, or from the one there is; else from the log's beginning.
 *
 * Before a partition whose records were read is started, its log is checked: is it
 * another one, reading goes back (consumer_log.c); what was deleted before it was
 * read is told.  The client decides nothing: auto.offset.reset is error.
 *
 * Records read twice are harmless: outbox.begin_batch knows them by their ids.
 */
#define _GNU_SOURCE
#include "position.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "anchor.h"
#include "calls.h"
#include "consumer.h"
#include "consumer_log.h"
#include "crash.h"
#include "group_check.h"
#include "service_metrics.h"
#include "settings.h"
#include "trouble.h"
#include "services/lib/backoff.h"
#include "services/lib/clock.h"
#include "services/lib/db_session.h"
#include "services/lib/log.h"

#define RETRY_SEEK_MS  20
#define ANSWER_STEP_MS 5 /* how often the answer to a check is looked for */

static const char watermarks_sql[] =
	"SELECT topic, partition, next_offset, round(idle_seconds * 1000)::bigint, log_no, old_ids_to,"
	" last_offset, last_ms, last_digest FROM outbox.consumer_offsets($1)";

/*
 * Puts the suspended partitions that are due, and are being checked or not, into `due`, when it is
 * not NULL; returns their number.
 */
static size_t
collect_due(OutboxMember *member, bool checked, OutboxPartition **due)
{
	int64_t			 now = outbox_clock_ms();
	OutboxPartition *partition;
	size_t			 count = 0;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!partition->owned || partition->active || partition->refused ||
			partition->resume_at > now || (partition->question != NULL) != checked)
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
	const char *values[1] = {outbox_settings.group_id};
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
		due[i]->log_no = 0;
		due[i]->old_ids_to = 0;
		due[i]->newest.offset = -1;
		for (int row = 0; row < PQntuples(result); row++)
		{
			if (atoi(PQgetvalue(result, row, 1)) == due[i]->partition &&
				strcmp(PQgetvalue(result, row, 0), due[i]->topic) == 0)
			{
				due[i]->watermark = strtoll(PQgetvalue(result, row, 2), NULL, 10);
				due[i]->progress_at =
					outbox_clock_ms() - strtoll(PQgetvalue(result, row, 3), NULL, 10);
				due[i]->log_no = atoi(PQgetvalue(result, row, 4));
				due[i]->old_ids_to = strtoll(PQgetvalue(result, row, 5), NULL, 10);
				due[i]->newest.offset = PQgetisnull(result, row, 6) ?
					-1 :
					strtoll(PQgetvalue(result, row, 6), NULL, 10);
				due[i]->newest.timestamp_ms = strtoll(PQgetvalue(result, row, 7), NULL, 10);
				due[i]->newest.digest = strtoll(PQgetvalue(result, row, 8), NULL, 10);
			}
		}
	}
	PQclear(result);
	for (size_t i = 0; i < count; i++)
	{
		due[i]->calls_out = outbox_calls_for(member, due[i]->topic);
		if (!due[i]->noted &&
			(!outbox_trouble_take(member, due[i]) || !outbox_crash_take(member, due[i])))
			return false;
	}
	return outbox_log_read_anchors(member, due, count);
}

/* Where reading goes on in the log that was read. */
static int64_t
find_start(const OutboxPartition *partition)
{
	int64_t start = partition->watermark;

	if (partition->next >= 0)
		return partition->next;
	if (partition->committed < 0)
	{
		if (start < 0)
			return OUTBOX_OFFSET_BEGINNING;
		outbox_log(OUTBOX_LOG_WARNING, "no_committed_offset",
				   "%s [%d]: Kafka has none for the group: reading"
				   " goes on at the database's offset %" PRId64 ", unless the log is another one",
				   partition->topic, (int) partition->partition, start);
		return start;
	}
	if (start < 0 || start > partition->committed)
		start = partition->committed;
	/* One transaction marker may lie between them; more means that work was undone. */
	if (partition->committed > start + 1)
		outbox_log(OUTBOX_LOG_INFO, "rewound",
				   "%s [%d]: Kafka has offset %" PRId64 ", the database %" PRId64, partition->topic,
				   (int) partition->partition, partition->committed, partition->watermark);
	return start;
}

/* The database does not answer: all due partitions wait. */
static void
postpone_due(OutboxMember *member, OutboxPartition **due, size_t count)
{
	const OutboxError *error = &member->db.error;
	bool			   halted = error->failure == OUTBOX_FAILURE_DEPLOY;
	int64_t			   pause = outbox_backoff(&member->random_state, due[0]->failures + 1);

	for (size_t i = 0; i < count; i++)
	{
		due[i]->failures++;
		due[i]->halted = halted;
		due[i]->resume_at = outbox_clock_ms() + pause;
	}
	outbox_count_failure(error->failure);
	outbox_log(halted ? OUTBOX_LOG_ERROR : OUTBOX_LOG_WARNING,
			   halted ? "partition_halted" : "waiting", "%s, SQLSTATE %s; again in %" PRId64 " ms",
			   error->message, error->sqlstate, pause);
}

static void
start_partition(OutboxMember *member, OutboxPartition *partition, int64_t start)
{
	/* In a rebalance the commit of an offset that goes back is refused. */
	if ((partition->went_back && outbox_consumer_rebalancing(member->consumer)) ||
		!outbox_consumer_start(member->consumer, partition, start))
	{
		partition->resume_at = outbox_clock_ms() + RETRY_SEEK_MS;
		partition->refused = true;
		partition->start = start;
		return;
	}
	partition->refused = false;
	outbox_log(OUTBOX_LOG_DEBUG, "partition_started", "%s [%d] from offset %" PRId64,
			   partition->topic, (int) partition->partition, partition->next);
}

/*
 * The log's first offset is behind where reading was to go on.  All below the watermark was read,
 * and below what this member has stored; Kafka's committed offset says nothing, where there is a
 * watermark: it may have been set.  A single one may be a transaction marker, which nobody was to
 * read.
 */
static void
note_deleted(OutboxMember *member, OutboxPartition *partition, int64_t start, int64_t low)
{
	if (partition->watermark > start)
		start = partition->watermark;
	if (partition->stored > start)
		start = partition->stored;
	if (low > start &&
		!(low == start + 1 && start == partition->watermark && partition->committed != start))
		outbox_log_note_lost(member, partition, start, low);
}

/* The partition's log is another one.  false: it cannot be started now. */
static bool
go_back(OutboxMember *member, OutboxPartition *partition, const OutboxLogCase *log, int64_t *start)
{
	bool fenced;

	partition->doubtful = true;
	if (!outbox_log_go_back(member, partition, log, start, &fenced))
	{
		postpone_due(member, &partition, 1);
		return false;
	}
	if (fenced)
	{
		outbox_consumer_forget(partition); /* all is read again */
		partition->suspect.offset = -1;
	}
	else
		partition->doubtful = false;
	return !fenced;
}

/* Starts a partition whose log was checked. */
static void
start_checked(OutboxMember *member, OutboxPartition *partition, const OutboxLogCase *log)
{
	OutboxLogVerdict verdict = outbox_log_case_verdict(log);
	int64_t			 start;

	outbox_count_log_check(verdict);
	outbox_log_check_later(member, partition, verdict != OUTBOX_LOG_UNREAD);
	if (verdict == OUTBOX_LOG_OTHER)
	{
		if (go_back(member, partition, log, &start))
			start_partition(member, partition, start);
		return;
	}
	partition->doubtful = false;
	start = find_start(partition);
	if (verdict != OUTBOX_LOG_UNREAD)
		outbox_log_take_good(member, partition, log);
	if (log->range_known && start >= 0 && start < log->low)
	{
		note_deleted(member, partition, start, log->low);
		start = log->low;
	}
	/* Nobody is to find a committed offset that the log does not have. */
	partition->went_back = log->range_known && partition->committed > log->high;
	start_partition(member, partition, start);
}

/* Takes the answers of those that were asked for. */
static bool
start_answered(OutboxMember *member)
{
	size_t			 count = collect_due(member, true, NULL);
	OutboxPartition *due[count + 1];
	OutboxLogCase	 log;
	bool			 any = false;

	collect_due(member, true, due);
	for (size_t i = 0; i < count; i++)
	{
		if (outbox_log_answer(due[i], &log))
		{
			start_checked(member, due[i], &log);
			any = true;
		}
		else
			due[i]->resume_at = outbox_clock_ms() + ANSWER_STEP_MS;
	}
	return any;
}

/* Tries those again that are checked, but that the client could not start. */
static bool
start_refused(OutboxMember *member)
{
	int64_t			 now = outbox_clock_ms();
	OutboxPartition *partition;
	bool			 any = false;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (!partition->owned || partition->active || !partition->refused ||
			partition->resume_at > now)
			continue;
		start_partition(member, partition, partition->start);
		any = any || partition->active;
	}
	return any;
}

/* Reads where they are, and starts them or has their logs checked. */
static bool
start_due(OutboxMember *member)
{
	size_t			 count = collect_due(member, false, NULL);
	OutboxPartition *due[count + 1];
	bool			 any = false;

	if (count == 0)
		return false;
	collect_due(member, false, due);
	if (!read_watermarks(member, due, count))
	{
		postpone_due(member, due, count);
		return false;
	}
	if (!outbox_consumer_committed(member->consumer, due, count))
	{
		for (size_t i = 0; i < count; i++)
			due[i]->resume_at = outbox_clock_ms() + outbox_backoff(&member->random_state, 1);
		return false;
	}
	for (size_t i = 0; i < count; i++)
	{
		if (outbox_log_ask(due[i], true))
		{
			due[i]->resume_at = outbox_clock_ms() + ANSWER_STEP_MS;
			continue;
		}
		outbox_log_check_later(member, due[i], true);
		start_partition(member, due[i], find_start(due[i]));
		any = true;
	}
	return any;
}

void
outbox_position_start(OutboxMember *member)
{
	bool any = start_answered(member);

	any = start_refused(member) || any;
	if (start_due(member) || any)
		outbox_consumer_wake(member->consumer);
}
