/* SPDX-License-Identifier: PostgreSQL
 *
 * group_alerts.c
 *	  The two alerts of a consumer group: it is behind, or its offsets lie outside their logs.
 *
 * Runs in outbox-monitor, poller thread.  alert_rules.c says when, alerts.c has the table of those
 * that fire.
 */
#include "group_alerts.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "alert_key.h"
#include "alerts.h"
#include "lag_published.h"
#include "settings.h"
#include "services/lib/clock.h"
#include "services/lib/wall_time.h"

static json_t *
make_alert(const OutboxLagGroup *group, const char *key, double seconds, OutboxAlertChange change)
{
	json_t *behind = seconds >= 0 ? json_real(seconds) : json_null();
	json_t *total =
		group->total_lag != OUTBOX_LAG_NULL ? json_integer(group->total_lag) : json_null();
	json_t *summary;

	if (change == OUTBOX_ALERT_RESOLVE)
		summary = json_sprintf("consumer group %s has caught up", group->name);
	else if (seconds >= 0)
		summary = json_sprintf("consumer group %s is %.0f s behind (%lld records, %s, %ld members)",
							   group->name, seconds, (long long) group->total_lag,
							   outbox_lag_status_name(group->status), group->members);
	else
		summary = json_sprintf("consumer group %s is %lld records behind (%s, %ld members)",
							   group->name, (long long) group->total_lag,
							   outbox_lag_status_name(group->status), group->members);
	return json_pack("{s:s, s:s, s:s, s:{s:s}, s:o, s:o, s:s, s:o, s:o, s:f}", "key", key, "kind",
					 "lag", "cluster", outbox_monitor.cluster_name, "labels", "group", group->name,
					 "reasons", outbox_alert_reasons(group->alert.reasons), "summary", summary,
					 "status", outbox_lag_status_name(group->status), "total_lag", total,
					 "seconds_behind", behind, "threshold_seconds", group->threshold);
}

/*
 * The partition furthest above its log's end, else the one that has lost most; NULL: none is
 * either.
 */
static const OutboxLagPartition *
find_outside(const OutboxLagGroup *group)
{
	const OutboxLagPartition *worst = NULL;

	for (size_t i = 0; i < group->partition_count; i++)
	{
		const OutboxLagPartition *partition = &group->partitions[i];

		if ((partition->beyond > 0 || partition->lost > 0) &&
			(worst == NULL || partition->beyond > worst->beyond ||
			 (worst->beyond == 0 && partition->lost > worst->lost)))
			worst = partition;
	}
	return worst;
}

static json_t *
make_range_summary(const OutboxLagGroup *group, const OutboxLagPartition *partition)
{
	if (partition == NULL)
		return json_sprintf("the committed offsets of consumer group %s lie in their logs again",
							group->name);
	if (partition->missing)
		return json_sprintf("consumer group %s has committed offset %lld of %s [%d], which is not "
							"there: was the topic made"
							" anew with fewer partitions?",
							group->name, (long long) partition->committed, partition->topic,
							(int) partition->partition);
	if (partition->beyond > 0)
		return json_sprintf("consumer group %s has committed offset %lld of %s [%d], whose log "
							"ends at %lld: was the topic"
							" made anew?",
							group->name, (long long) partition->committed, partition->topic,
							(int) partition->partition, (long long) partition->end);
	return json_sprintf("consumer group %s has lost up to %lld records of %s [%d]: it stands at "
						"offset %lld, the log begins at"
						" %lld",
						group->name, (long long) partition->lost, partition->topic,
						(int) partition->partition, (long long) partition->committed,
						(long long) partition->start);
}

static json_t *
make_range_alert(const OutboxLagGroup *group, const char *key, OutboxAlertChange change)
{
	const OutboxLagPartition *partition =
		change == OUTBOX_ALERT_TRIGGER ? find_outside(group) : NULL;
	json_t *alert;

	alert = json_pack("{s:s, s:s, s:s, s:{s:s}, s:o, s:o, s:s}", "key", key, "kind", "offsets",
					  "cluster", outbox_monitor.cluster_name, "labels", "group", group->name,
					  "reasons", outbox_alert_reasons(group->range_alert.reasons), "summary",
					  make_range_summary(group, partition), "status",
					  outbox_lag_status_name(group->status));
	if (partition != NULL)
	{
		json_object_set_new(alert, "topic", json_string(partition->topic));
		json_object_set_new(alert, "partition", json_integer(partition->partition));
		json_object_set_new(alert, "committed_offset", json_integer(partition->committed));
		json_object_set_new(alert, "start_offset",
							partition->missing ? json_null() : json_integer(partition->start));
		json_object_set_new(alert, "end_offset",
							partition->missing ? json_null() : json_integer(partition->end));
	}
	return alert;
}

/*
 * Offsets outside their logs: an alert of their own, for a lag may have rung long before records
 * are lost.
 */
static void
judge_ranges(OutboxLagGroup *group, int64_t now_ms)
{
	char			  key[OUTBOX_ALERT_KEY];
	OutboxAlertChange change;

	outbox_alert_key(key, "offsets/%s/%s", outbox_monitor.cluster_name, group->name);
	group->range_alert.firing = outbox_alerts_firing(key, &group->range_alert_since_ms);
	if (!group->answered)
		return;
	change = outbox_alert_judge_ranges(&group->range_alert, group->beyond, group->lost,
									   group->ranges_known);
	if (change != OUTBOX_ALERT_NONE)
		outbox_alerts_change(change, make_range_alert(group, key, change));
	if (change == OUTBOX_ALERT_TRIGGER)
		group->range_alert_since_ms = now_ms;
}

static void
judge_lag(OutboxLagGroup *group, int64_t now_ms)
{
	char			  key[OUTBOX_ALERT_KEY];
	OutboxLagSample	  sample = {0};
	OutboxAlertChange change;

	outbox_alert_key(key, "lag/%s/%s", outbox_monitor.cluster_name, group->name);
	group->alert.firing = outbox_alerts_firing(key, &group->alert_since_ms);
	if (!group->answered)
		return;
	sample.now_ms = outbox_clock_ms();
	sample.lag = group->total_lag;
	sample.seconds = outbox_group_seconds(group, now_ms);
	sample.threshold = group->threshold;
	sample.status = group->status;
	sample.complete = group->complete;
	sample.deserted = group->empty && !group->simple;
	sample.grace_ms = INT64_C(1000) * outbox_monitor.members_grace_seconds;
	change = outbox_alert_judge_lag(&group->alert, &sample);
	if (change != OUTBOX_ALERT_NONE)
		outbox_alerts_change(change, make_alert(group, key, sample.seconds, change));
	if (change == OUTBOX_ALERT_TRIGGER)
		group->alert_since_ms = now_ms;
}

void
outbox_group_alerts_judge(OutboxLagGroup *group)
{
	judge_lag(group, outbox_wall_ms());
	judge_ranges(group, outbox_wall_ms());
}

static bool
is_known(json_t *alert)
{
	const char *name =
		json_string_value(json_object_get(json_object_get(alert, "labels"), "group"));
	const char *cluster = json_string_value(json_object_get(alert, "cluster"));

	return name != NULL && strcmp(cluster, outbox_monitor.cluster_name) == 0 &&
		outbox_lag_snapshot_find(outbox_lag_published(), name) != NULL;
}

void
outbox_group_alerts_sweep(void)
{
	outbox_alerts_sweep("lag", is_known);
	outbox_alerts_sweep("offsets", is_known);
}
