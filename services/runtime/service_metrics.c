/* SPDX-License-Identifier: PostgreSQL
 *
 * service_metrics.c
 *	  The metrics every consumer has.
 *
 * Runs in the services, any thread.
 */
#include "service_metrics.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "record_log.h"
#include "settings.h"
#include "services/kafka/event_time.h"
#include "services/lib/clock.h"
#include "services/lib/db_session.h"
#include "services/lib/metrics.h"

#define ANSWER_MS 2000 /* the main thread waits no longer: it looks after the signals */

static const double batch_buckets[] = {1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000};

static OutboxMetric records_total = {
	.name = "outbox_consumer_records_total",
	.help = "Records by what became of them.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric outcomes_total = {
	.name = "outbox_consumer_outcomes_total",
	.help = "Answers of the handlers' SQL functions.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric process_seconds = {
	.name = "outbox_consumer_process_seconds",
	.help = "A record's share of its batch's transaction.",
	.type = OUTBOX_METRIC_HISTOGRAM,
	.buckets = outbox_metric_seconds,
	.bucket_count = 14,
};
static OutboxMetric end_to_end_seconds = {
	.name = "outbox_consumer_end_to_end_seconds",
	.help = "From the event's time (ce_time, else the record's) to the commit of its effect.",
	.type = OUTBOX_METRIC_HISTOGRAM,
	.buckets = outbox_metric_seconds,
	.bucket_count = 14,
};
static OutboxMetric batch_records = {
	.name = "outbox_consumer_batch_records",
	.help = "Records in one transaction.",
	.type = OUTBOX_METRIC_HISTOGRAM,
	.buckets = batch_buckets,
	.bucket_count = sizeof(batch_buckets) / sizeof(batch_buckets[0]),
};
static OutboxMetric failures_total = {
	.name = "outbox_consumer_infra_errors_total",
	.help = "Failures that are waited out.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric dead_letters = {
	.name = "outbox_dead_letters",
	.help = "Rows of outbox.dead_letter not done with.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric unpublished_letters = {
	.name = "outbox_dead_letters_unpublished",
	.help = "Open rows of outbox.dead_letter that could not be published to <topic>.DLT.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric breaker_open = {
	.name = "outbox_consumer_breaker_open",
	.help = "1 while too many dead letters of one kind pause the consumer.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric idle_seconds = {
	.name = "outbox_consumer_idle_seconds",
	.help = "Since the last record.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric rebalances_total = {
	.name = "outbox_consumer_rebalances_total",
	.help = "Times a member's partitions were given out anew, by kind.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric unassigned_seconds = {
	.name = "outbox_consumer_partition_unassigned_seconds",
	.help = "How long nobody read a partition: at its first record after an assignment, since the "
			"record or the progress before it, the later one.",
	.type = OUTBOX_METRIC_HISTOGRAM,
	.buckets = outbox_metric_seconds,
	.bucket_count = 14,
};
static OutboxMetric paused_partitions = {
	.name = "outbox_consumer_paused_partitions",
	.help = "Assigned and not read at present: being started, waiting or halted.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric halted_partitions = {
	.name = "outbox_consumer_halted_partitions",
	.help = "Assigned and halted: the program and the database do not fit.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric log_changes_total = {
	.name = "outbox_consumer_log_changes_total",
	.help = "Times a partition's log was found to be another one than the one that was read: made "
			"anew or cut.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric lost_records_total = {
	.name = "outbox_consumer_lost_records_total",
	.help = "Offsets that were deleted from a log before they were read.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric log_checks_total = {
	.name = "outbox_consumer_log_checks_total",
	.help = "Checks whether a partition's log is the one that was read, by what was found.",
	.type = OUTBOX_METRIC_COUNTER,
};
static OutboxMetric call_seconds = {
	.name = "outbox_consumer_call_seconds",
	.help = "A handler's call to another system, by what came of it.",
	.type = OUTBOX_METRIC_HISTOGRAM,
	.buckets = outbox_metric_seconds,
	.bucket_count = 14,
};
static OutboxMetric calls_under_way = {
	.name = "outbox_consumer_calls_under_way",
	.help = "Calls to other systems that have not ended.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric calls_waiting = {
	.name = "outbox_consumer_calls_waiting",
	.help = "Records that wait to be called for, or for the transaction after their call.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric window_full = {
	.name = "outbox_consumer_window_full",
	.help = "1 while so many records wait for calls that no more are read.",
	.type = OUTBOX_METRIC_GAUGE,
};
static OutboxMetric build_info = {
	.name = "outbox_build_info",
	.help = "1, with the versions as labels.",
	.type = OUTBOX_METRIC_GAUGE,
};

void
outbox_count_record(const char *topic, const char *result)
{
	outbox_metric_add(&records_total, 1, "consumer", outbox_settings.group_id, "topic", topic,
					  "result", result, NULL);
}

void
outbox_count_outcome(const OutboxItem *item)
{
	outbox_count_record(item->record.topic, "ok");
	if (item->outcome[0] != '\0')
		outbox_metric_add(&outcomes_total, 1, "consumer", outbox_settings.group_id, "topic",
						  item->record.topic, "outcome", item->outcome, NULL);
	outbox_log_record(OUTBOX_LOG_DEBUG, "processed", &item->record, "outcome %s", item->outcome);
}

void
outbox_count_log_change(const char *topic)
{
	outbox_metric_add(&log_changes_total, 1, "consumer", outbox_settings.group_id, "topic", topic,
					  NULL);
}

void
outbox_count_lost(const char *topic, int64_t records)
{
	outbox_metric_add(&lost_records_total, (double) records, "consumer", outbox_settings.group_id,
					  "topic", topic, NULL);
}

void
outbox_count_log_check(OutboxLogVerdict verdict)
{
	static const char *const names[] = {
		[OUTBOX_LOG_SAME] = "same",
		[OUTBOX_LOG_OTHER] = "other",
		[OUTBOX_LOG_NO_PROOF] = "no_proof",
		[OUTBOX_LOG_UNREAD] = "unread",
	};

	outbox_metric_add(&log_checks_total, 1, "consumer", outbox_settings.group_id, "result",
					  names[verdict], NULL);
}

void
outbox_count_nothing(const char *topic)
{
	outbox_metric_add(&log_changes_total, 0, "consumer", outbox_settings.group_id, "topic", topic,
					  NULL);
	outbox_metric_add(&lost_records_total, 0, "consumer", outbox_settings.group_id, "topic", topic,
					  NULL);
}

void
outbox_count_rebalance(const char *kind)
{
	outbox_metric_add(&rebalances_total, 1, "consumer", outbox_settings.group_id, "kind", kind,
					  NULL);
}

void
outbox_observe_call(const OutboxItem *item, double seconds)
{
	static const char *const names[] = {
		[OUTBOX_VERDICT_CALL] = "done",		  [OUTBOX_VERDICT_IGNORE] = "ignored",
		[OUTBOX_VERDICT_REJECT] = "rejected", [OUTBOX_VERDICT_FAIL] = "failed",
		[OUTBOX_VERDICT_WAIT] = "away",
	};

	outbox_metric_observe(&call_seconds, seconds, 1, "consumer", outbox_settings.group_id, "topic",
						  item->record.topic, "result", names[item->verdict], NULL);
}

void
outbox_set_calls(int under_way, int waiting, bool full)
{
	outbox_metric_set(&calls_under_way, under_way, "consumer", outbox_settings.group_id, NULL);
	outbox_metric_set(&calls_waiting, waiting, "consumer", outbox_settings.group_id, NULL);
	outbox_metric_set(&window_full, full, "consumer", outbox_settings.group_id, NULL);
}

void
outbox_set_paused(int paused, int halted)
{
	outbox_metric_set(&paused_partitions, paused, "consumer", outbox_settings.group_id, NULL);
	outbox_metric_set(&halted_partitions, halted, "consumer", outbox_settings.group_id, NULL);
}

/*
 * The partition's first record since it was assigned; it could be read from the record's own time
 * on, whatever the event's.
 */
static void
observe_takeover(const OutboxRecord *record, double now_ms)
{
	OutboxPartition *partition = record->source;
	double since = record->timestamp_ms >= 0 ? (now_ms - (double) record->timestamp_ms) / 1000 : 0;
	double progress = (double) (outbox_clock_ms() - partition->progress_at) / 1000;

	partition->taken = false;
	if (partition->progress_at >= 0 && progress < since)
		since = progress;
	outbox_metric_observe(&unassigned_seconds, since > 0 ? since : 0, 1, "consumer",
						  outbox_settings.group_id, NULL);
}

void
outbox_observe_batch(OutboxItem **items, int count, double seconds)
{
	const char	   *consumer = outbox_settings.group_id;
	struct timespec now;
	double			now_ms;

	clock_gettime(CLOCK_REALTIME, &now);
	now_ms = (double) now.tv_sec * 1000 + (double) now.tv_nsec / 1000000;
	outbox_metric_observe(&batch_records, count, 1, "consumer", consumer, NULL);
	outbox_metric_observe(&process_seconds, seconds / count, (unsigned) count, "consumer", consumer,
						  NULL);
	for (int i = 0; i < count; i++)
	{
		const OutboxRecord *record = &items[i]->record;
		int64_t				since =
			outbox_event_since_ms(record->event_us, record->timestamp_ms, (int64_t) now_ms);

		if (record->source != NULL && record->source->taken)
			observe_takeover(record, now_ms);
		if (items[i]->claim == OUTBOX_CLAIM_NEW && since >= 0)
			outbox_metric_observe(&end_to_end_seconds,
								  now_ms > (double) since ? (now_ms - (double) since) / 1000 : 0, 1,
								  "consumer", consumer, "topic", record->topic, NULL);
	}
}

void
outbox_count_failure(OutboxDbFailure failure)
{
	outbox_metric_add(&failures_total, 1, "consumer", outbox_settings.group_id, "class",
					  outbox_failure_name(failure), NULL);
}

void
outbox_set_breaker(bool open)
{
	outbox_metric_set(&breaker_open, open ? 1 : 0, "consumer", outbox_settings.group_id, NULL);
}

void
outbox_set_idle(double seconds)
{
	outbox_metric_set(&idle_seconds, seconds, "consumer", outbox_settings.group_id, NULL);
}

bool
outbox_refresh_dead_letters(OutboxDb *db)
{
	static const char sql[] =
		"SELECT topic, state, number, unpublished FROM outbox.dead_letter_counts($1)";
	const char *values[1] = {outbox_settings.group_id};
	PGresult   *result = NULL;

	if (outbox_db_connect(db))
		result = outbox_db_query_within(db, sql, 1, values, ANSWER_MS);
	if (result == NULL)
		return false;
	outbox_metric_clear(&dead_letters);
	outbox_metric_clear(&unpublished_letters);
	for (int row = 0; row < PQntuples(result); row++)
	{
		outbox_metric_set(&dead_letters, atof(PQgetvalue(result, row, 2)), "consumer",
						  outbox_settings.group_id, "topic", PQgetvalue(result, row, 0), "state",
						  PQgetvalue(result, row, 1), NULL);
		if (strcmp(PQgetvalue(result, row, 1), "open") == 0)
			outbox_metric_set(&unpublished_letters, atof(PQgetvalue(result, row, 3)), "consumer",
							  outbox_settings.group_id, "topic", PQgetvalue(result, row, 0), NULL);
	}
	PQclear(result);
	return true;
}

void
outbox_set_build_info(void)
{
	char libpq[16];

	snprintf(libpq, sizeof(libpq), "%d", PQlibVersion());
	outbox_metric_set(&build_info, 1, "version", OUTBOX_VERSION, "libpq", libpq, NULL);
}
