/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_api.c
 *	  The JSON answers.  Seconds behind are counted up to the moment of the
 *	  answer, offsets are of measured_at.
 *
 * Runs in outbox-monitor, threads of the HTTP pool.
 */
#include "lag_api.h"

#include <jansson.h>

#include "databases.h"
#include "lag_published.h"
#include "services/lib/wall_time.h"

/* What is not known is null. */
static json_t *
make_number(int64_t value)
{
	return value == OUTBOX_LAG_NULL ? json_null() : json_integer(value);
}

static json_t *
make_seconds(double seconds)
{
	return seconds < 0 ? json_null() : json_real(seconds);
}

static json_t *
make_time(int64_t ms)
{
	char text[OUTBOX_TIME_TEXT];

	if (ms == OUTBOX_LAG_NULL)
		return json_null();
	outbox_format_time(ms, text);
	return json_string(text);
}

static json_t *
make_partition(const OutboxLagPartition *partition, int64_t now_ms)
{
	int64_t pending = partition->lag > 0 ? partition->pending_ms : OUTBOX_LAG_NULL;

	return json_pack("{s:s, s:i, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:o, s:o, s:s?}", "topic",
					 partition->topic, "partition", (int) partition->partition, "status",
					 outbox_lag_status_name(partition->status), "committed_offset",
					 make_number(partition->committed), "start_offset",
					 make_number(partition->start), "end_offset", make_number(partition->end),
					 "last_stable_offset", make_number(partition->stable), "lag",
					 make_number(partition->lag), "beyond_end", (json_int_t) partition->beyond,
					 "lost", (json_int_t) partition->lost, "seconds_behind",
					 make_seconds(outbox_partition_seconds(partition, now_ms)), "oldest_pending_at",
					 make_time(pending), "client_id", partition->client_id);
}

static json_t *
make_worst(const OutboxLagPartition *worst, int64_t now_ms)
{
	if (worst == NULL)
		return json_null();
	return json_pack("{s:s, s:i, s:I, s:o}", "topic", worst->topic, "partition",
					 (int) worst->partition, "lag", (json_int_t) worst->lag, "seconds_behind",
					 make_seconds(outbox_partition_seconds(worst, now_ms)));
}

/* Since when the first of the group's alerts fires, or OUTBOX_LAG_NULL. */
static int64_t
alerting_since(const OutboxLagGroup *group)
{
	int64_t since = group->alert.firing ? group->alert_since_ms : OUTBOX_LAG_NULL;

	if (group->range_alert.firing &&
		(since == OUTBOX_LAG_NULL || group->range_alert_since_ms < since))
		since = group->range_alert_since_ms;
	return since;
}

static json_t *
make_group(const OutboxLagSnapshot *snapshot, const OutboxLagGroup *group)
{
	int64_t					  now_ms = outbox_wall_ms();
	const OutboxLagPartition *worst = outbox_group_worst(group, now_ms);
	json_t					 *partitions = json_array();

	for (size_t i = 0; i < group->partition_count; i++)
		json_array_append_new(partitions, make_partition(&group->partitions[i], now_ms));
	return json_pack("{s:s, s:s, s:o, s:s, s:o, s:o, s:o, s:f, s:b, s:o, s:o, s:s*, s:o}", "group",
					 group->name, "state", group->state, "members", make_number(group->members),
					 "status", outbox_lag_status_name(group->status), "total_lag",
					 make_number(group->total_lag), "estimated_seconds_behind",
					 make_seconds(outbox_group_seconds(group, now_ms)), "max_lag_partition",
					 make_worst(worst, now_ms), "threshold_seconds", group->threshold, "alerting",
					 (int) (group->alert.firing || group->range_alert.firing), "alerting_since",
					 make_time(alerting_since(group)), "measured_at",
					 make_time(snapshot->measured_ms), "error",
					 group->answered ? NULL : "the group's coordinator does not answer",
					 "partitions", partitions);
}

static void
give(OutboxHttpAnswer *answer, json_t *body)
{
	if (body == NULL)
	{
		outbox_http_error(answer, 500, "out of memory");
		return;
	}
	answer->body = json_dumps(body, JSON_COMPACT);
	json_decref(body);
}

static void
run_all(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	const char				*error;
	const OutboxLagSnapshot *snapshot = outbox_lag_view(&error);
	json_t					*groups;

	(void) request;
	if (snapshot == NULL)
		outbox_http_error(answer, 503, "Kafka does not answer: %s", error);
	else
	{
		groups = json_array();
		for (size_t i = 0; i < snapshot->group_count; i++)
			json_array_append_new(groups, make_group(snapshot, &snapshot->groups[i]));
		give(answer,
			 json_pack("{s:o, s:o}", "measured_at", make_time(snapshot->measured_ms), "groups",
					   groups));
	}
	outbox_lag_release();
}

static void
run_group(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	const char				*error;
	const OutboxLagSnapshot *snapshot = outbox_lag_view(&error);
	const OutboxLagGroup	*group =
		snapshot != NULL ? outbox_lag_snapshot_find(snapshot, request->rest) : NULL;

	if (snapshot == NULL)
		outbox_http_error(answer, 503, "Kafka does not answer: %s", error);
	else if (group == NULL)
		outbox_http_error(answer, 404, "consumer group \"%s\" is not known or not watched",
						  request->rest);
	else
		give(answer, make_group(snapshot, group));
	outbox_lag_release();
}

static void
run_letters(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	give(answer, outbox_databases_letters_json());
}

static void
run_holds(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	(void) request;
	give(answer, outbox_databases_holds_json());
}

const OutboxRoute outbox_lag_routes[] = {
	{"GET", "/consumer-lag", run_all, OUTBOX_RIGHT_READ},
	{"GET", "/consumer-lag/", run_group, OUTBOX_RIGHT_READ},
	{"GET", "/dead-letters", run_letters, OUTBOX_RIGHT_READ},
	{"GET", "/topic-holds", run_holds, OUTBOX_RIGHT_READ},
	{NULL, NULL, NULL, OUTBOX_RIGHT_NONE},
};
