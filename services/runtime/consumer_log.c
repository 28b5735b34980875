/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer_log.c
 *	  Whether the logs a member reads are still those it has read: its anchors,
 *	  and going back when a log was made anew.
 *
 * Runs in the services, member threads.  log_check.c looks at the logs; here anchors are kept in
 * outbox.consumer_anchor, and the watermark goes back.
 */
#define _GNU_SOURCE
#include "consumer_log.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "anchor.h"
#include "consumer.h"
#include "log_check.h"
#include "service_metrics.h"
#include "settings.h"
#include "services/kafka/digest.h"
#include "services/lib/array_text.h"
#include "services/lib/backoff.h"
#include "services/lib/clock.h"
#include "services/lib/db_session.h"
#include "services/lib/log.h"

#define CHECK_INTERVAL_MS 25000 /* with what a check takes, at least every 30 s */
#define CHECK_SPREAD_MS	  4000	/* up to so much sooner, so that partitions do not come together */
#define CHECK_AGAIN_MS	  2000	/* after a check that could not be made */

static const char anchors_sql[] = "SELECT place, \"offset\", record_ms, digest FROM "
								  "outbox.consumer_anchors($1, $2::text[], $3::integer[])";
static const char keep_sql[] = "SELECT outbox.keep_anchor($1, $2, $3::integer, $4::integer, "
							   "$5::bigint, $6::bigint, $7::bigint, $8::bigint[])";
static const char rewind_sql[] =
	"SELECT outbox.rewind_offset($1, $2, $3::integer, $4::bigint, $5::integer, $6::bigint)";
static const char advance_sql[] =
	"SELECT outbox.advance_offset($1, $2, $3::integer, $4::bigint, $5::bigint)";

bool
outbox_log_read_anchors(OutboxMember *member, OutboxPartition *const *partitions, size_t count)
{
	OutboxArrayText topics;
	OutboxArrayText numbers;
	const char	   *values[3] = {outbox_settings.group_id};
	PGresult	   *result;

	outbox_array_begin(&topics);
	outbox_array_begin(&numbers);
	for (size_t i = 0; i < count; i++)
	{
		partitions[i]->anchor_count = 0;
		outbox_array_add_text(&topics, partitions[i]->topic);
		outbox_array_add_integer(&numbers, partitions[i]->partition);
	}
	outbox_array_finish(&topics);
	outbox_array_finish(&numbers);
	values[1] = topics.text;
	values[2] = numbers.text;
	result = outbox_db_query(&member->db, anchors_sql, 3, values);
	free(topics.text);
	free(numbers.text);
	if (result == NULL)
		return false;
	for (int row = 0; row < PQntuples(result); row++)
	{
		OutboxPartition *partition = partitions[atoi(PQgetvalue(result, row, 0)) - 1];

		if (partition->anchor_count == OUTBOX_ANCHORS)
			continue;
		partition->anchors[partition->anchor_count++] = (OutboxAnchor) {
			.offset = strtoll(PQgetvalue(result, row, 1), NULL, 10),
			.timestamp_ms = strtoll(PQgetvalue(result, row, 2), NULL, 10),
			.digest = strtoll(PQgetvalue(result, row, 3), NULL, 10),
		};
	}
	PQclear(result);
	return true;
}

void
outbox_log_note_begun(OutboxPartition *partition, const OutboxRecord *record)
{
	partition->begun.offset = record->offset;
	partition->begun.timestamp_ms = record->timestamp_ms;
	partition->begun.digest =
		(int64_t) outbox_record_digest(record->key, record->key_len, record->raw_value,
									   record->raw_value_len);
}

void
outbox_log_note_done(OutboxPartition *partition, const OutboxRecord *record)
{
	if (partition->newest.offset >= record->offset)
		return;
	if (partition->begun.offset != record->offset)
		outbox_log_note_begun(partition, record);
	partition->newest = partition->begun;
}

void
outbox_log_note_anchor(OutboxPartition *partition, const OutboxAnchor *anchor)
{
	if (partition->newest.offset < anchor->offset)
		partition->newest = *anchor;
}

/* All before it was read; -1: nothing was. */
static int64_t
find_position(const OutboxPartition *partition)
{
	if (partition->watermark < 0)
		return partition->committed;
	return partition->next > partition->watermark ? partition->next : partition->watermark;
}

bool
outbox_log_ask(OutboxPartition *partition, bool urgent)
{
	int64_t position = find_position(partition);

	partition->overtaken = false;
	if (partition->anchor_count == 0 && position <= 0 && !partition->broken &&
		partition->waiting.offset < 0)
		return false;
	partition->candidate = *outbox_suspect_choose(&partition->suspect, &partition->newest);
	if (partition->candidate.offset < 0)
		partition->candidate = partition->waiting; /* read, if not done */
	partition->question =
		outbox_log_check_ask(partition->topic, partition->partition, &partition->candidate,
							 partition->anchors, partition->anchor_count, position, urgent,
							 partition->doubtful);
	return true;
}

bool
outbox_log_answer(OutboxPartition *partition, OutboxLogCase *log)
{
	const OutboxLogCase *answer = outbox_log_check_answer(partition->question);

	if (answer != NULL)
		*log = *answer;
	else if (outbox_log_check_overdue(partition->question))
	{
		outbox_log_case_begin(log, &partition->candidate, partition->anchors,
							  partition->anchor_count, find_position(partition));
		outbox_log_case_see(log, &(OutboxLogView) {.found = OUTBOX_FOUND_UNREAD});
	}
	else
		return false;
	outbox_log_check_forget(partition->question);
	partition->question = NULL;
	outbox_suspect_answered(&partition->suspect, &partition->candidate,
							partition->overtaken ? OUTBOX_LOG_UNREAD :
												   outbox_log_case_verdict(log));
	return true;
}

/* When the partition is checked next, after a check that was made, or was not needed. */
void
outbox_log_check_later(OutboxMember *member, OutboxPartition *partition, bool made)
{
	partition->check_at = outbox_clock_ms() +
		(made && !partition->overtaken ?
			 CHECK_INTERVAL_MS - rand_r(&member->random_state) % CHECK_SPREAD_MS :
			 CHECK_AGAIN_MS);
}

/*
 * Runs keep_sql: anchor NULL is none; dropped: an array's text; *kept: false, nothing is changed.
 * false: member->db.error.
 */
static bool
store_anchor(OutboxMember *member, const OutboxPartition *partition, const OutboxAnchor *anchor,
			 const char *dropped, bool *kept)
{
	char		number[16];
	char		log_no[16];
	char		offset[24] = "";
	char		record_ms[24];
	char		digest[24];
	const char *values[8] = {outbox_settings.group_id,
							 partition->topic,
							 number,
							 log_no,
							 anchor != NULL ? offset : NULL,
							 anchor != NULL ? record_ms : NULL,
							 anchor != NULL ? digest : NULL,
							 dropped};
	PGresult   *result = NULL;
	bool		answered;

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	snprintf(log_no, sizeof(log_no), "%d", partition->log_no);
	if (anchor != NULL)
	{
		snprintf(offset, sizeof(offset), "%" PRId64, anchor->offset);
		snprintf(record_ms, sizeof(record_ms), "%" PRId64, anchor->timestamp_ms);
		snprintf(digest, sizeof(digest), "%" PRId64, anchor->digest);
	}
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, keep_sql, 8, values);
	if (result == NULL)
		outbox_log(OUTBOX_LOG_INFO, "anchor_not_kept", "%s", member->db.error.message);
	answered = result != NULL;
	*kept = answered && PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	return answered;
}

/*
 * The database was asked: where it is away the next try waits, for each may take as long as a
 * connection.
 */
static void
note_answer(OutboxMember *member, bool answered)
{
	if (answered || member->db.error.failure != OUTBOX_FAILURE_INFRASTRUCTURE)
		member->watch_failures = 0;
	else
		member->watch_at =
			outbox_clock_ms() + outbox_backoff(&member->random_state, ++member->watch_failures);
}

/* Keeps the anchor, and none of those before `low`; forget: none of the others. */
static void
keep_anchor(OutboxMember *member, OutboxPartition *partition, const OutboxAnchor *anchor,
			int64_t low, bool forget)
{
	OutboxAnchor	anchors[OUTBOX_ANCHORS];
	int				count = 0;
	int64_t			given_up;
	OutboxArrayText dropped;
	bool			kept;

	if (outbox_clock_ms() < member->watch_at)
		return;
	outbox_array_begin(&dropped);
	for (int i = 0; i < partition->anchor_count; i++)
	{
		if (forget || partition->anchors[i].offset < low)
			outbox_array_add_integer(&dropped, partition->anchors[i].offset);
		else
			anchors[count++] = partition->anchors[i];
	}
	if (anchor != NULL && (given_up = outbox_anchors_add(anchors, &count, anchor)) >= 0)
		outbox_array_add_integer(&dropped, given_up);
	outbox_array_finish(&dropped);
	note_answer(member, store_anchor(member, partition, anchor, dropped.text, &kept));
	free(dropped.text);
	if (kept)
	{
		memcpy(partition->anchors, anchors, (size_t) count * sizeof(*anchors));
		partition->anchor_count = count;
	}
	else if (anchor != NULL &&
			 (partition->newest.offset == anchor->offset || partition->anchor_count == 0))
		partition->newest.offset = -1; /* the next record will do */
}

/* A check has found the log unchanged, or nothing left to know it by. */
void
outbox_log_take_good(OutboxMember *member, OutboxPartition *partition, const OutboxLogCase *log)
{
	const OutboxAnchor *candidate = partition->candidate.offset >= 0 ? &partition->candidate : NULL;

	if (outbox_log_case_verdict(log) == OUTBOX_LOG_NO_PROOF && partition->anchor_count > 0)
	{
		if (!partition->unproven)
			outbox_log(OUTBOX_LOG_WARNING, "log_unproven",
					   "%s [%d]: no record that was processed is left in the"
					   " log to know it by; reading goes on where it was, at offset %" PRId64,
					   partition->topic, (int) partition->partition, log->position);
		partition->unproven = true;
		keep_anchor(member, partition, candidate, log->low, true);
	}
	else if (outbox_log_case_is_good(log) && candidate != NULL &&
			 candidate->offset > partition->anchors[0].offset)
		keep_anchor(member, partition, candidate, log->low, false);
}

/* Has the watermark step over what is no more. */
static bool
advance_watermark(OutboxMember *member, const OutboxPartition *partition, int64_t next)
{
	char		number[16];
	char		expected[24];
	char		forward[24];
	const char *values[5] = {outbox_settings.group_id, partition->topic, number, expected, forward};
	PGresult   *result = NULL;
	bool		moved;

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	snprintf(expected, sizeof(expected), "%" PRId64, partition->watermark);
	snprintf(forward, sizeof(forward), "%" PRId64, next);
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, advance_sql, 5, values);
	moved = result != NULL && PQgetvalue(result, 0, 0)[0] == 't';
	PQclear(result);
	return moved;
}

void
outbox_log_note_lost(OutboxMember *member, OutboxPartition *partition, int64_t from, int64_t low)
{
	outbox_log(OUTBOX_LOG_WARNING, "records_lost",
			   "%s [%d]: offsets %" PRId64 " to %" PRId64 " were deleted before"
			   " they were read; reading goes on at %" PRId64,
			   partition->topic, (int) partition->partition, from, low - 1, low);
	outbox_count_lost(partition->topic, low - from);
	if (partition->watermark >= 0 && partition->watermark < low &&
		advance_watermark(member, partition, low))
		partition->watermark = low;
}

/*
 * Has the database's watermark go back.  false: member->db.error; *fenced: another member was here.
 */
static bool
rewind_watermark(OutboxMember *member, OutboxPartition *partition, int64_t next, bool *fenced)
{
	char		number[16];
	char		expected[24];
	char		log_no[16];
	char		back[24];
	const char *values[6] =
		{outbox_settings.group_id, partition->topic, number, expected, log_no, back};
	PGresult *result = NULL;

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	snprintf(expected, sizeof(expected), "%" PRId64, partition->watermark);
	snprintf(log_no, sizeof(log_no), "%d", partition->log_no);
	snprintf(back, sizeof(back), "%" PRId64, next);
	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, rewind_sql, 6, values);
	if (result == NULL)
		return false;
	*fenced = PQgetisnull(result, 0, 0);
	if (!*fenced)
	{
		partition->log_no = atoi(PQgetvalue(result, 0, 0));
		partition->watermark = next;
		if (partition->old_ids_to > next)
			partition->old_ids_to = next;
	}
	PQclear(result);
	return true;
}

/* Forgets the anchors of the log that is no more. */
static void
forget_anchors(OutboxPartition *partition, int64_t from)
{
	int kept = 0;

	for (int i = 0; i < partition->anchor_count; i++)
	{
		if (partition->anchors[i].offset < from)
			partition->anchors[kept++] = partition->anchors[i];
	}
	partition->anchor_count = kept;
	partition->newest.offset = partition->suspect.offset = partition->waiting.offset = -1;
}

bool
outbox_log_go_back(OutboxMember *member, OutboxPartition *partition, const OutboxLogCase *log,
				   int64_t *start, bool *fenced)
{
	int64_t position = find_position(partition);
	int64_t watermark = partition->watermark;
	int64_t standing = outbox_log_case_restart(log);

	/* An anchor may be newer than the watermark: the database may have been set back. */
	if (watermark >= 0 && standing > watermark)
		standing = watermark;
	*start = log->range_known && log->low > standing ? log->low : standing;
	*fenced = false;
	if (watermark >= 0 &&
		!rewind_watermark(member, partition, *start < watermark ? *start : watermark, fenced))
		return false;
	if (*fenced)
		return true;
	forget_anchors(partition, *start);
	outbox_consumer_forget(partition);
	partition->suspect_count = 0;
	partition->went_back = true;
	outbox_log(OUTBOX_LOG_WARNING, "log_made_anew",
			   "%s [%d]: the log is not the one that was read up to offset %" PRId64
			   ": made anew or cut; reading goes on at %" PRId64
			   ", %s, what was processed is known",
			   partition->topic, (int) partition->partition, position, *start,
			   log->standing >= 0 ? "after the newest record that is still there" :
									"its beginning");
	outbox_count_log_change(partition->topic);
	if (*start > standing)
		outbox_log_note_lost(member, partition, standing, *start);
	return true;
}

/*
 * Did the commit of the offset that went back not come through (a rebalance refuses it)?  What this
 * member has stored is below what Kafka has then, and that is above the log's end.
 */
static bool
is_committed_above(OutboxMember *member, OutboxPartition *partition, const OutboxLogCase *log)
{
	if (!partition->verify || !log->range_known ||
		!outbox_consumer_committed(member->consumer, &partition, 1))
		return false;
	partition->verify = false;
	return partition->committed > log->high && partition->committed > partition->stored &&
		partition->committed > partition->next;
}

/* The answer for a partition that is read. */
static void
take_answer(OutboxMember *member, OutboxPartition *partition)
{
	OutboxLogCase	 log;
	OutboxLogVerdict verdict;

	if (!outbox_log_answer(partition, &log))
		return;
	verdict = outbox_log_case_verdict(&log);
	outbox_count_log_check(verdict);
	outbox_log_check_later(member, partition, verdict != OUTBOX_LOG_UNREAD);
	if (verdict == OUTBOX_LOG_OTHER)
	{
		partition->doubtful = true;
		outbox_consumer_suspend(member->consumer, partition, 0);
	}
	if (verdict != OUTBOX_LOG_SAME && verdict != OUTBOX_LOG_NO_PROOF)
		return;
	if (is_committed_above(member, partition, &log))
		outbox_consumer_suspend(member->consumer, partition, 0);
	outbox_log_take_good(member, partition, &log);
}

static void
watch_log(OutboxMember *member, OutboxPartition *partition, int64_t now)
{
	if (partition->question != NULL)
		take_answer(member, partition);
	else if (partition->anchor_count == 0 && partition->newest.offset >= 0)
		keep_anchor(member, partition,
					outbox_suspect_choose(&partition->suspect, &partition->newest), 0, false);
	else if (partition->check_at <= now && !outbox_log_ask(partition, false))
		outbox_log_check_later(member, partition, true);
}

void
outbox_log_watch(OutboxMember *member)
{
	int64_t			 now = outbox_clock_ms();
	OutboxPartition *partition;

	for (size_t i = 0; now >= member->watch_at &&
		 (partition = outbox_consumer_partition(member->consumer, i)) != NULL;
		 i++)
	{
		if (partition->owned && partition->active)
			watch_log(member, partition, now);
	}
}
