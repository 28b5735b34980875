/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_metrics.c
 *	  Lag as Prometheus text, under the names of kafka-lag-exporter, so that its
 *	  dashboards work.  A series is there while its group is.
 *
 * Runs in outbox-monitor, HTTP threads.
 */
#include "lag_metrics.h"

#include <stdio.h>

#include "databases.h"
#include "lag_published.h"
#include "settings.h"
#include "services/lib/metrics.h"
#include "services/lib/wall_time.h"

static void
write_head(FILE *out, const char *name, const char *help)
{
	fprintf(out, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name);
}

static void
write_group(FILE *out, const char *name, const OutboxLagGroup *group, double value)
{
	fputs(name, out);
	outbox_metrics_write_label(out, "{", "cluster_name", outbox_monitor.cluster_name);
	outbox_metrics_write_label(out, ",", "group", group->name);
	fprintf(out, "} %.17g\n", value);
}

static void
write_partition(FILE *out, const char *name, const OutboxLagGroup *group,
				const OutboxLagPartition *partition, double value)
{
	char number[16];

	snprintf(number, sizeof(number), "%d", (int) partition->partition);
	fputs(name, out);
	outbox_metrics_write_label(out, "{", "cluster_name", outbox_monitor.cluster_name);
	outbox_metrics_write_label(out, ",", "group", group->name);
	outbox_metrics_write_label(out, ",", "topic", partition->topic);
	outbox_metrics_write_label(out, ",", "partition", number);
	outbox_metrics_write_label(out, ",", "member_host",
							   partition->host != NULL ? partition->host : "");
	outbox_metrics_write_label(out, ",", "consumer_id",
							   partition->consumer_id != NULL ? partition->consumer_id : "");
	outbox_metrics_write_label(out, ",", "client_id",
							   partition->client_id != NULL ? partition->client_id : "");
	fprintf(out, "} %.17g\n", value);
}

/* One family of a number of each partition; negative: not known, no series. */
static void
write_partitions(FILE *out, const OutboxLagSnapshot *snapshot, const char *name, const char *help,
				 double (*value)(const OutboxLagPartition *partition))
{
	write_head(out, name, help);
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		const OutboxLagGroup *group = &snapshot->groups[i];

		for (size_t j = 0; j < group->partition_count; j++)
		{
			double number = value(&group->partitions[j]);

			if (number >= 0)
				write_partition(out, name, group, &group->partitions[j], number);
		}
	}
}

/* As write_partitions, of each group. */
static void
write_groups(FILE *out, const OutboxLagSnapshot *snapshot, const char *name, const char *help,
			 double (*value)(const OutboxLagGroup *group))
{
	write_head(out, name, help);
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		double number = value(&snapshot->groups[i]);

		if (number >= 0)
			write_group(out, name, &snapshot->groups[i], number);
	}
}

static double
partition_offset(const OutboxLagPartition *partition)
{
	return (double) partition->committed;
}

static double
partition_lag(const OutboxLagPartition *partition)
{
	return (double) partition->lag;
}

static double
partition_beyond(const OutboxLagPartition *partition)
{
	return partition->committed != OUTBOX_LAG_NULL ? (double) partition->beyond : -1;
}

static double
partition_lost(const OutboxLagPartition *partition)
{
	return partition->committed != OUTBOX_LAG_NULL ? (double) partition->lost : -1;
}

static double
partition_seconds(const OutboxLagPartition *partition)
{
	return outbox_partition_seconds(partition, outbox_wall_ms());
}

static double
group_max_lag(const OutboxLagGroup *group)
{
	double most = -1;

	for (size_t i = 0; i < group->partition_count; i++)
	{
		if ((double) group->partitions[i].lag > most)
			most = (double) group->partitions[i].lag;
	}
	return most;
}

static double
group_max_seconds(const OutboxLagGroup *group)
{
	return outbox_group_seconds(group, outbox_wall_ms());
}

static double
group_sum(const OutboxLagGroup *group)
{
	return (double) group->total_lag;
}

static double
group_members(const OutboxLagGroup *group)
{
	return (double) group->members;
}

static double
group_alerting(const OutboxLagGroup *group)
{
	return group->alert.firing || group->range_alert.firing ? 1 : 0;
}

static double
group_threshold(const OutboxLagGroup *group)
{
	return group->threshold;
}

static void
write_statuses(FILE *out, const OutboxLagSnapshot *snapshot)
{
	static const char name[] = "outbox_consumer_group_status";

	write_head(out, name, "1, with the status as a label.");
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		fputs(name, out);
		outbox_metrics_write_label(out, "{", "cluster_name", outbox_monitor.cluster_name);
		outbox_metrics_write_label(out, ",", "group", snapshot->groups[i].name);
		outbox_metrics_write_label(out, ",", "status",
								   outbox_lag_status_name(snapshot->groups[i].status));
		fputs("} 1\n", out);
	}
}

static void
write_lag(FILE *out, const OutboxLagSnapshot *snapshot)
{
	write_partitions(out, snapshot, "kafka_consumergroup_group_offset", "Committed offset.",
					 partition_offset);
	write_partitions(out, snapshot, "kafka_consumergroup_group_lag",
					 "Records not done with, of those that can be read.", partition_lag);
	write_partitions(out, snapshot, "kafka_consumergroup_group_lag_seconds",
					 "Since the time stamp of the first record not done with.", partition_seconds);
	write_partitions(out, snapshot, "outbox_consumer_group_beyond_end",
					 "How far the committed offset is above the log's end: it is another log's.",
					 partition_beyond);
	write_partitions(out, snapshot, "outbox_consumer_group_lost",
					 "Offsets from the committed one on that the log no longer has: not read, or "
					 "markers.",
					 partition_lost);
	write_groups(out, snapshot, "kafka_consumergroup_group_max_lag", "Largest lag of a partition.",
				 group_max_lag);
	write_groups(out, snapshot, "kafka_consumergroup_group_max_lag_seconds",
				 "Largest lag of a partition in seconds.", group_max_seconds);
	write_groups(out, snapshot, "kafka_consumergroup_group_sum_lag", "Lag of all partitions.",
				 group_sum);
	write_groups(out, snapshot, "outbox_consumer_group_members", "Members, where Kafka tells.",
				 group_members);
	write_groups(out, snapshot, "outbox_consumer_group_alerting", "1 while an alert fires.",
				 group_alerting);
	write_groups(out, snapshot, "outbox_consumer_group_threshold_seconds",
				 "Above it an alert begins.", group_threshold);
	write_statuses(out, snapshot);
}

static void
write_metrics(FILE *out)
{
	const char				*error;
	const OutboxLagSnapshot *snapshot = outbox_lag_view(&error);

	if (snapshot != NULL)
		write_lag(out, snapshot);
	outbox_lag_release();
	write_head(out, "outbox_source_up", "Did the source answer when it was last asked?");
	fprintf(out, "outbox_source_up{source=\"kafka\"} %d\n", snapshot != NULL);
	outbox_databases_write(out);
}

void
outbox_lag_metrics_setup(void)
{
	outbox_metrics_collect(write_metrics);
}
