/* SPDX-License-Identifier: PostgreSQL
 *
 * lag_snapshot.c
 *	  Memory and order of what the polls find, and the sums of it.
 *
 * Runs in outbox-monitor, poller thread; what only reads also in HTTP threads.
 */
#define _GNU_SOURCE
#include "lag_snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "services/lib/text.h"

static void *
grow(void *memory, size_t count, size_t *room, size_t size)
{
	if (count < *room)
		return memory;
	*room = *room == 0 ? 16 : 2 * *room;
	memory = reallocarray(memory, *room, size);
	if (memory == NULL)
		abort();
	return memory;
}

OutboxLagGroup *
outbox_lag_snapshot_add_group(OutboxLagSnapshot *snapshot, const char *name)
{
	OutboxLagGroup *group;

	snapshot->groups = grow(snapshot->groups, snapshot->group_count, &snapshot->group_room,
							sizeof(OutboxLagGroup));
	group = &snapshot->groups[snapshot->group_count++];
	memset(group, 0, sizeof(*group));
	group->name = outbox_text_keep(name);
	group->members = group->total_lag = OUTBOX_LAG_NULL;
	return group;
}

OutboxLagPartition *
outbox_group_partition(OutboxLagGroup *group, const char *topic, int32_t number)
{
	OutboxLagPartition *partition;

	for (size_t i = group->partition_count; i > 0; i--)
	{
		partition = &group->partitions[i - 1];
		if (partition->partition == number && strcmp(partition->topic, topic) == 0)
			return partition;
	}
	group->partitions = grow(group->partitions, group->partition_count, &group->partition_room,
							 sizeof(OutboxLagPartition));
	partition = &group->partitions[group->partition_count++];
	memset(partition, 0, sizeof(*partition));
	partition->topic = outbox_text_keep(topic);
	partition->partition = number;
	partition->committed = partition->end = partition->stable = OUTBOX_LAG_NULL;
	partition->start = partition->start_before = OUTBOX_LAG_NULL;
	partition->lag = partition->pending_ms = OUTBOX_LAG_NULL;
	return partition;
}

static int
compare_groups(const void *a, const void *b)
{
	return strcmp(((const OutboxLagGroup *) a)->name, ((const OutboxLagGroup *) b)->name);
}

static int
compare_partitions(const void *a, const void *b)
{
	const OutboxLagPartition *one = a;
	const OutboxLagPartition *two = b;
	int						  order = strcmp(one->topic, two->topic);

	return order != 0 ? order :
						(one->partition > two->partition) - (one->partition < two->partition);
}

OutboxLagGroup *
outbox_lag_snapshot_find(const OutboxLagSnapshot *snapshot, const char *name)
{
	OutboxLagGroup wanted = {.name = (char *) name};

	if (snapshot->group_count == 0)
		return NULL;
	return bsearch(&wanted, snapshot->groups, snapshot->group_count, sizeof(OutboxLagGroup),
				   compare_groups);
}

static OutboxLagPartition *
find_partition(const OutboxLagGroup *group, const char *topic, int32_t partition)
{
	OutboxLagPartition wanted = {.topic = (char *) topic, .partition = partition};

	if (group->partition_count == 0)
		return NULL;
	return bsearch(&wanted, group->partitions, group->partition_count, sizeof(OutboxLagPartition),
				   compare_partitions);
}

void
outbox_lag_snapshot_sort(OutboxLagSnapshot *snapshot)
{
	if (snapshot->group_count > 0)
		qsort(snapshot->groups, snapshot->group_count, sizeof(OutboxLagGroup), compare_groups);
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		OutboxLagGroup *group = &snapshot->groups[i];

		if (group->partition_count > 0)
			qsort(group->partitions, group->partition_count, sizeof(OutboxLagPartition),
				  compare_partitions);
	}
}

static void
clear_partition(OutboxLagPartition *partition)
{
	free(partition->topic);
	free(partition->client_id);
	free(partition->consumer_id);
	free(partition->host);
}

void
outbox_group_drop(OutboxLagGroup *group, OutboxLagPartition *partition)
{
	size_t place = (size_t) (partition - group->partitions);

	clear_partition(partition);
	group->partition_count--;
	memmove(partition, partition + 1, (group->partition_count - place) * sizeof(*partition));
}

void
outbox_lag_snapshot_carry(OutboxLagSnapshot *snapshot, OutboxLagSnapshot *before)
{
	for (size_t i = 0; before != NULL && i < snapshot->group_count; i++)
	{
		OutboxLagGroup *group = &snapshot->groups[i];
		OutboxLagGroup *old = outbox_lag_snapshot_find(before, group->name);

		if (old == NULL)
			continue;
		group->alert = old->alert;
		group->alert_since_ms = old->alert_since_ms;
		group->range_alert = old->range_alert;
		group->range_alert_since_ms = old->range_alert_since_ms;
		for (size_t j = 0; j < old->partition_count; j++)
		{
			OutboxLagPartition *source = &old->partitions[j];
			OutboxLagPartition *target;

			if (group->answered)
				target = find_partition(group, source->topic, source->partition);
			else
			{
				target = outbox_group_partition(group, source->topic, source->partition);
				target->committed = source->committed;
			}
			if (target == NULL)
				continue;
			target->window = source->window;
			target->start_before =
				source->start != OUTBOX_LAG_NULL ? source->start : source->start_before;
			if (target->committed != OUTBOX_LAG_NULL && target->committed == source->committed)
			{
				target->pending_ms = source->pending_ms;
				target->pending_read_at = source->pending_read_at;
				target->clear_to = source->clear_to;
			}
		}
	}
	outbox_lag_snapshot_sort(snapshot);
}

void
outbox_partition_measure(OutboxLagPartition *partition)
{
	const OutboxLogRange range = {.committed = partition->committed,
								  .start_before = partition->start_before,
								  .start = partition->start,
								  .end = partition->end,
								  .clear_to = partition->clear_to,
								  .record_seen = partition->pending_ms != OUTBOX_LAG_NULL,
								  .missing = partition->missing};
	int64_t				 first =
		partition->start > partition->committed ? partition->start : partition->committed;

	partition->lag = OUTBOX_LAG_NULL;
	partition->beyond = outbox_lag_beyond(&range);
	partition->lost = outbox_lag_lost(&range);
	/* Of an offset that is another log's nobody knows what it leaves to be done. */
	if (partition->committed == OUTBOX_LAG_NULL || partition->stable == OUTBOX_LAG_NULL ||
		partition->beyond > 0)
		return;
	partition->lag = partition->stable - first;
	/* A read_uncommitted consumer is ahead of the stable offset. */
	if (partition->lag < 0 || partition->clear_to >= partition->stable)
		partition->lag = 0;
}

/* Has the group work here of which it is not known how old it is? */
static bool
is_age_unknown(const OutboxLagPartition *partition)
{
	return partition->committed != OUTBOX_LAG_NULL && partition->lag != 0 &&
		(partition->lag == OUTBOX_LAG_NULL || partition->pending_ms == OUTBOX_LAG_NULL);
}

/* What lies outside its log is that before all else. */
static void
judge_range(OutboxLagGroup *group, OutboxLagPartition *partition)
{
	if (partition->beyond > 0)
		partition->status = OUTBOX_LAG_BEYOND;
	else if (partition->lost > 0)
		partition->status = OUTBOX_LAG_LOST;
	group->beyond = group->beyond || partition->beyond > 0;
	group->lost = group->lost || partition->lost > 0;
	if (!partition->missing &&
		(partition->start == OUTBOX_LAG_NULL || partition->end == OUTBOX_LAG_NULL))
		group->ranges_known = false;
}

static void
judge_partition(OutboxLagGroup *group, OutboxLagPartition *partition)
{
	bool owned =
		partition->client_id != NULL || (!group->empty && !group->simple && group->members <= 0);

	if (partition->committed == OUTBOX_LAG_NULL)
		return;
	if (!group->answered)
	{
		group->complete = group->ranges_known = false;
		return;
	}
	if (partition->lag == OUTBOX_LAG_NULL)
		group->complete = false;
	else
	{
		outbox_lag_window_add(&partition->window, partition->committed, partition->lag);
		partition->status = outbox_lag_judge(&partition->window, owned);
		if (partition->status == OUTBOX_LAG_UNKNOWN || is_age_unknown(partition))
			group->complete = false;
		group->total_lag = partition->lag + (group->total_lag > 0 ? group->total_lag : 0);
	}
	judge_range(group, partition);
	if (partition->status > group->status)
		group->status = partition->status;
}

void
outbox_lag_snapshot_judge(OutboxLagSnapshot *snapshot)
{
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		OutboxLagGroup *group = &snapshot->groups[i];

		group->complete = group->ranges_known = true;
		for (size_t j = 0; j < group->partition_count; j++)
			judge_partition(group, &group->partitions[j]);
	}
}

double
outbox_partition_seconds(const OutboxLagPartition *partition, int64_t now_ms)
{
	if (partition->lag == 0)
		return 0;
	if (partition->lag == OUTBOX_LAG_NULL || partition->pending_ms == OUTBOX_LAG_NULL)
		return -1;
	return now_ms > partition->pending_ms ? (double) (now_ms - partition->pending_ms) / 1000 : 0;
}

const OutboxLagPartition *
outbox_group_worst(const OutboxLagGroup *group, int64_t now_ms)
{
	const OutboxLagPartition *worst = NULL;
	double					  most = -1;

	for (size_t i = 0; i < group->partition_count; i++)
	{
		const OutboxLagPartition *partition = &group->partitions[i];
		double					  seconds = outbox_partition_seconds(partition, now_ms);

		if (partition->lag == OUTBOX_LAG_NULL)
			continue;
		if (worst == NULL || seconds > most || (seconds == most && partition->lag > worst->lag))
		{
			worst = partition;
			most = seconds;
		}
	}
	return worst;
}

double
outbox_group_seconds(const OutboxLagGroup *group, int64_t now_ms)
{
	const OutboxLagPartition *worst = outbox_group_worst(group, now_ms);
	double seconds = worst != NULL ? outbox_partition_seconds(worst, now_ms) : -1;

	for (size_t i = 0; seconds <= group->threshold && i < group->partition_count; i++)
	{
		if (is_age_unknown(&group->partitions[i]))
			return -1;
	}
	return seconds;
}

static void
clear_group(OutboxLagGroup *group)
{
	for (size_t j = 0; j < group->partition_count; j++)
		clear_partition(&group->partitions[j]);
	free(group->partitions);
	free(group->name);
}

void
outbox_lag_snapshot_prune(OutboxLagSnapshot *snapshot)
{
	size_t kept = 0;

	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		if (snapshot->groups[i].partition_count > 0 || !snapshot->groups[i].answered)
			snapshot->groups[kept++] = snapshot->groups[i];
		else
			clear_group(&snapshot->groups[i]);
	}
	snapshot->group_count = kept;
}

void
outbox_lag_snapshot_free(OutboxLagSnapshot *snapshot)
{
	if (snapshot == NULL)
		return;
	for (size_t i = 0; i < snapshot->group_count; i++)
		clear_group(&snapshot->groups[i]);
	free(snapshot->groups);
	free(snapshot);
}
