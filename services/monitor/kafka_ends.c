/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_ends.c
 *	  Where the logs begin and end: first offset, last stable offset, high watermark.
 *
 * Runs in outbox-monitor, poller thread.
 *
 * librdkafka 2.0.2 has no ListOffsets call: rd_kafka_offsets_for_times asks for "latest" or
 * "earliest", all partitions of a broker in one request.  It gives no answer at all when one broker
 * gives none, so each leader is asked by itself: a silent one leaves the ends of its own logs
 * unknown and nothing else.
 */
#define _GNU_SOURCE
#include "kafka_ends.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/clock.h"

#define SHARES 4 /* a leader may take this part of the time-out */

static bool
fail(char *error, size_t size, const char *what, rd_kafka_resp_err_t err)
{
	snprintf(error, size, "%s: %s", what, rd_kafka_err2str(err));
	return false;
}

/* One log of the cluster, by topic and number. */
typedef struct LogEnd
{
	const char *topic;
	int32_t		partition;
	int32_t		leader; /* negative: none to ask */
	bool		wanted; /* a group has it */
	int64_t		start;
	int64_t		high;
	int64_t		stable;
} LogEnd;

typedef struct LogEnds
{
	LogEnd *logs;
	size_t	count;
} LogEnds;

static int
compare_logs(const void *a, const void *b)
{
	const LogEnd *one = a;
	const LogEnd *two = b;
	int			  order = strcmp(one->topic, two->topic);

	return order != 0 ? order :
						(one->partition > two->partition) - (one->partition < two->partition);
}

static LogEnd *
find_log(const LogEnds *ends, const char *topic, int32_t partition)
{
	LogEnd wanted = {.topic = topic, .partition = partition};

	if (ends->count == 0)
		return NULL;
	return bsearch(&wanted, ends->logs, ends->count, sizeof(LogEnd), compare_logs);
}

/* All logs; the topics' names stay in the metadata. */
static LogEnds
list_logs(const rd_kafka_metadata_t *metadata)
{
	LogEnds ends = {NULL, 0};
	size_t	count = 0;

	for (int i = 0; i < metadata->topic_cnt; i++)
		count += (size_t) metadata->topics[i].partition_cnt;
	ends.logs = calloc(count + 1, sizeof(LogEnd));
	if (ends.logs == NULL)
		abort();
	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];

		for (int j = 0; j < topic->partition_cnt; j++)
		{
			LogEnd *log = &ends.logs[ends.count++];

			log->topic = topic->topic;
			log->partition = topic->partitions[j].id;
			log->leader = topic->partitions[j].leader;
			log->start = log->high = log->stable = OUTBOX_LAG_NULL;
		}
	}
	qsort(ends.logs, ends.count, sizeof(LogEnd), compare_logs);
	return ends;
}

/*
 * Marks what is asked for; partitions of topics that are gone, or that this client may not see,
 * leave the snapshot.  A topic that is there without the partition was made anew with fewer of
 * them.
 */
static void
mark_logs(OutboxLagSnapshot *snapshot, const LogEnds *ends)
{
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		OutboxLagGroup *group = &snapshot->groups[i];

		for (size_t j = group->partition_count; j > 0; j--)
		{
			OutboxLagPartition *partition = &group->partitions[j - 1];
			LogEnd			   *log = find_log(ends, partition->topic, partition->partition);

			if (log != NULL)
				log->wanted = true;
			else if (partition->committed != OUTBOX_LAG_NULL &&
					 find_log(ends, partition->topic, 0) != NULL)
				partition->missing = true;
			else
				outbox_group_drop(group, partition);
		}
	}
}

/* A handle keeps asking the leaders it knows, also one that is gone, until it hears of others. */
static void
refresh_leaders(const OutboxKafkaClient *client, rd_kafka_t *rk)
{
	const rd_kafka_metadata_t *metadata;

	if (rd_kafka_metadata(rk, 1, NULL, &metadata, client->timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_metadata_destroy(metadata);
}

static int
compare_numbers(const void *a, const void *b)
{
	int32_t one = *(const int32_t *) a;
	int32_t two = *(const int32_t *) b;

	return (one > two) - (one < two);
}

/* The leaders of the logs that are wanted, each once, rising.  The caller frees. */
static int32_t *
list_leaders(const LogEnds *ends, size_t *count)
{
	int32_t *leaders = calloc(ends->count + 1, sizeof(int32_t));
	size_t	 found = 0;

	if (leaders == NULL)
		abort();
	for (size_t i = 0; i < ends->count; i++)
	{
		if (ends->logs[i].wanted && ends->logs[i].leader >= 0)
			leaders[found++] = ends->logs[i].leader;
	}
	qsort(leaders, found, sizeof(int32_t), compare_numbers);
	*count = 0;
	for (size_t i = 0; i < found; i++)
	{
		if (*count == 0 || leaders[*count - 1] != leaders[i])
			leaders[(*count)++] = leaders[i];
	}
	return leaders;
}

/* What a leader is asked for, by the handle whose answer it is. */
typedef enum LogPlace
{
	LOG_START,	/* read_committed, as either would */
	LOG_STABLE, /* read_committed */
	LOG_HIGH,	/* read_uncommitted */
} LogPlace;

/* Asks one leader for a place in its logs. */
static rd_kafka_resp_err_t
ask_leader(rd_kafka_t *rk, LogPlace place, LogEnds *ends, int32_t leader, int wait_ms)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1024);
	rd_kafka_resp_err_t				 err;

	for (size_t i = 0; i < ends->count; i++)
	{
		const LogEnd *log = &ends->logs[i];

		/* In place of a time: "earliest" or "latest". */
		if (log->wanted && log->leader == leader)
			rd_kafka_topic_partition_list_add(list, log->topic, log->partition)->offset =
				place == LOG_START ? RD_KAFKA_OFFSET_BEGINNING : RD_KAFKA_OFFSET_END;
	}
	err = rd_kafka_offsets_for_times(rk, list, wait_ms);
	for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
	{
		const rd_kafka_topic_partition_t *found = &list->elems[i];
		LogEnd							 *log = find_log(ends, found->topic, found->partition);

		if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR && found->offset >= 0)
			*(place == LOG_START	  ? &log->start :
				  place == LOG_STABLE ? &log->stable :
										&log->high) = found->offset;
	}
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

/* Has the leader told an end in this poll?  A silent one is not waited for a third time. */
static bool
has_answered(const LogEnds *ends, int32_t leader)
{
	for (size_t i = 0; i < ends->count; i++)
	{
		if (ends->logs[i].wanted && ends->logs[i].leader == leader &&
			ends->logs[i].high != OUTBOX_LAG_NULL)
			return true;
	}
	return false;
}

/*
 * Asks for a place in all logs that are wanted.  Each poll begins with another leader, so that
 * silent ones, which use up the time, hide the others in some polls only: turn says which.
 */
static bool
ask_ends(const OutboxKafkaClient *client, size_t turn, LogPlace place, LogEnds *ends, char *error,
		 size_t size)
{
	rd_kafka_t		   *rk = place == LOG_HIGH ? client->uncommitted : client->committed;
	int64_t				deadline = outbox_clock_ms() + client->timeout_ms;
	rd_kafka_resp_err_t failure = RD_KAFKA_RESP_ERR_NO_ERROR;
	size_t				count;
	size_t				answers = 0;
	int32_t			   *leaders = list_leaders(ends, &count);
	int					wait_ms = count > 1 ? client->timeout_ms / SHARES : client->timeout_ms;

	for (size_t i = 0;
		 i < count && outbox_clock_ms() < deadline && !outbox_kafka_client_cancelled(); i++)
	{
		int32_t				leader = leaders[(turn + i) % count];
		rd_kafka_resp_err_t err;

		if (place == LOG_START && !has_answered(ends, leader))
			continue;
		err = ask_leader(rk, place, ends, leader, wait_ms);
		if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
			answers++;
		else
			failure = err;
	}
	free(leaders);
	if (failure != RD_KAFKA_RESP_ERR_NO_ERROR)
		refresh_leaders(client, rk);
	if (answers > 0 || count == 0)
		return true;
	return fail(error, size, "ends of the logs", failure);
}

static void
note_ends(OutboxLagSnapshot *snapshot, const LogEnds *ends)
{
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		for (size_t j = 0; j < snapshot->groups[i].partition_count; j++)
		{
			OutboxLagPartition *partition = &snapshot->groups[i].partitions[j];
			const LogEnd	   *log = find_log(ends, partition->topic, partition->partition);

			if (log != NULL)
			{
				partition->start = log->start;
				partition->end = log->high;
				partition->stable = log->stable;
			}
			outbox_partition_measure(partition);
		}
	}
}

/* One more try: a broker that did not answer is not chosen again. */
static rd_kafka_resp_err_t
read_metadata(const OutboxKafkaClient *client, const rd_kafka_metadata_t **metadata)
{
	rd_kafka_resp_err_t err =
		rd_kafka_metadata(client->committed, 1, NULL, metadata, client->timeout_ms / 2);

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && !outbox_kafka_client_cancelled())
		err = rd_kafka_metadata(client->committed, 1, NULL, metadata, client->timeout_ms / 2);
	return err;
}

bool
outbox_kafka_ends_read(const OutboxKafkaClient *client, OutboxLagSnapshot *snapshot, size_t *turn,
					   char *error, size_t size)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_resp_err_t		   err = read_metadata(client, &metadata);
	LogEnds					   ends;
	bool					   good;

	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return fail(error, size, "topics", err);
	ends = list_logs(metadata);
	mark_logs(snapshot, &ends);
	(*turn)++;
	good = ask_ends(client, *turn, LOG_STABLE, &ends, error, size) &&
		ask_ends(client, *turn, LOG_HIGH, &ends, error, size);
	if (good)
	{
		char ignored[128]; /* what stays unknown is the logs' begin alone */

		ask_ends(client, *turn, LOG_START, &ends, ignored, sizeof(ignored));
		note_ends(snapshot, &ends);
	}
	free(ends.logs);
	rd_kafka_metadata_destroy(metadata);
	return good;
}
