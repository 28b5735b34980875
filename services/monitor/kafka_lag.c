/* SPDX-License-Identifier: PostgreSQL
 *
 * kafka_lag.c
 *	  The monitor's Kafka client: its handles, the ends of the logs, the age of
 *	  the first record that is pending.
 *
 * Runs in outbox-monitor, poller thread; log_client on any thread.
 *
 * Two handles: a read_committed one, to which Kafka tells the last stable offset
 * as the end of a log and which reads the first record that is pending, and a
 * read_uncommitted one for the high watermark.  Neither joins a group nor commits.
 * librdkafka 2.0.2 has no ListOffsets call: rd_kafka_offsets_for_times asks for
 * "latest", all partitions of a broker in one request.
 */
#define _GNU_SOURCE
#include "kafka_lag.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "common/kafka_properties.h"
#include "consumer.h"
#include "kafka_client.h"
#include "log.h"

#define PATIENT_MS		3600000	/* the longest time-out of an admin request */
#define ROUND_MAX		500		/* partitions read at once */
#define REREAD_MS		60000	/* a record may be gone by retention: look again */

/* One partition of which the age of the first pending record is wanted. */
typedef struct Question
{
	OutboxLagPartition *partition;
	bool		done;			/* answered, or will not be in this poll */
	bool		asked;			/* in the round under way */
} Question;

static void
log_client(const rd_kafka_t *rk, int level, const char *facility, const char *text)
{
	(void) rk;
	outbox_log(level <= LOG_ERR ? OUTBOX_LOG_INFO : OUTBOX_LOG_DEBUG, "kafka_client", NULL, "%s: %s",
			   facility, text);
}

static bool
set_property(const char *name, const char *value, void *arg)
{
	char		reason[512];

	if (rd_kafka_conf_set(arg, name, value, reason, sizeof(reason)) == RD_KAFKA_CONF_OK)
		return true;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_property_refused", NULL, "%s", reason);
	return false;
}

static rd_kafka_t *
open_handle(const char *bootstrap_servers, const char *properties, const char *isolation)
{
	const char *const ours[][2] = {
		{"bootstrap.servers", bootstrap_servers},
		{"client.id", "outbox-monitor"},
		{"group.id", "outbox-monitor"}, /* assign wants one; it is never joined */
		{"isolation.level", isolation},
		{"auto.offset.reset", "earliest"},
		{"enable.auto.commit", "false"},
		{"enable.auto.offset.store", "false"},
		{"enable.partition.eof", "true"},
		{"queued.min.messages", "1"},
		{"queued.max.messages.kbytes", "1024"},
		{"fetch.message.max.bytes", "65536"},
		{"fetch.wait.max.ms", "100"},
		{"reconnect.backoff.max.ms", "2000"},
	};
	rd_kafka_conf_t *conf = rd_kafka_conf_new();
	rd_kafka_t *rk = NULL;
	char		reason[512] = "";
	bool		good;

	good = outbox_kafka_properties_parse(properties, OUTBOX_KAFKA_CONSUMER, set_property, conf, reason,
										 sizeof(reason));
	for (size_t i = 0; good && i < sizeof(ours) / sizeof(ours[0]); i++)
		good = set_property(ours[i][0], ours[i][1], conf);
	if (good)
	{
		rd_kafka_conf_set_log_cb(conf, log_client);
		rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	}
	if (rk != NULL)
	{
		rd_kafka_poll_set_consumer(rk);
		return rk;
	}
	outbox_log(OUTBOX_LOG_ERROR, "kafka_client_failed", NULL, "%s", reason);
	rd_kafka_conf_destroy(conf);
	return NULL;
}

OutboxKafkaLag *
outbox_kafka_lag_open(const char *bootstrap_servers, const char *properties, int timeout_ms)
{
	OutboxKafkaLag *kafka = calloc(1, sizeof(*kafka));

	if (kafka == NULL)
		return NULL;
	kafka->timeout_ms = timeout_ms;
	kafka->committed = open_handle(bootstrap_servers, properties, "read_committed");
	if (kafka->committed != NULL)
		kafka->uncommitted = open_handle(bootstrap_servers, properties, "read_uncommitted");
	if (kafka->uncommitted == NULL)
	{
		outbox_kafka_lag_close(kafka);
		return NULL;
	}
	kafka->descriptions = rd_kafka_queue_new(kafka->committed);
	kafka->offsets = rd_kafka_queue_new(kafka->committed);
	return kafka;
}

rd_kafka_AdminOptions_t *
outbox_kafka_options(OutboxKafkaLag *kafka, rd_kafka_admin_op_t operation, void *opaque, bool patient)
{
	rd_kafka_AdminOptions_t *options = rd_kafka_AdminOptions_new(kafka->committed, operation);
	char		reason[256];

	rd_kafka_AdminOptions_set_request_timeout(options, patient ? PATIENT_MS : kafka->timeout_ms, reason,
											  sizeof(reason));
	rd_kafka_AdminOptions_set_opaque(options, opaque);
	return options;
}

bool
outbox_kafka_lag_idle(const OutboxKafkaLag *kafka)
{
	return kafka->asked == NULL && kafka->describing_since == 0;
}

bool
outbox_kafka_lag_worn(const OutboxKafkaLag *kafka)
{
	int64_t		oldest = outbox_kafka_offsets_oldest(kafka);
	int64_t		limit = outbox_clock_ms() - PATIENT_MS / 2;

	return (oldest != 0 && oldest < limit) || (kafka->describing_since != 0 && kafka->describing_since < limit);
}

void
outbox_kafka_lag_close(OutboxKafkaLag *kafka)
{
	if (kafka->descriptions != NULL)
		rd_kafka_queue_destroy(kafka->descriptions);
	if (kafka->offsets != NULL)
		rd_kafka_queue_destroy(kafka->offsets);
	if (kafka->committed != NULL)
		rd_kafka_destroy_flags(kafka->committed, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	if (kafka->uncommitted != NULL)
		rd_kafka_destroy_flags(kafka->uncommitted, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
	free(kafka);
}

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
	bool		led;			/* has a leader to ask */
	bool		wanted;			/* a group has it */
	int64_t		high;
	int64_t		stable;
} LogEnd;

typedef struct LogEnds
{
	LogEnd	   *logs;
	size_t		count;
} LogEnds;

static int
compare_logs(const void *a, const void *b)
{
	const LogEnd *one = a;
	const LogEnd *two = b;
	int			order = strcmp(one->topic, two->topic);

	return order != 0 ? order : (one->partition > two->partition) - (one->partition < two->partition);
}

static LogEnd *
find_log(const LogEnds *ends, const char *topic, int32_t partition)
{
	LogEnd		wanted = {.topic = topic, .partition = partition};

	if (ends->count == 0)
		return NULL;
	return bsearch(&wanted, ends->logs, ends->count, sizeof(LogEnd), compare_logs);
}

/* All logs; the topics' names stay in the metadata. */
static LogEnds
list_logs(const rd_kafka_metadata_t *metadata)
{
	LogEnds		ends = {NULL, 0};
	size_t		count = 0;

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
			LogEnd	   *log = &ends.logs[ends.count++];

			log->topic = topic->topic;
			log->partition = topic->partitions[j].id;
			log->led = topic->partitions[j].leader >= 0;
			log->high = log->stable = OUTBOX_LAG_NULL;
		}
	}
	qsort(ends.logs, ends.count, sizeof(LogEnd), compare_logs);
	return ends;
}

/* Marks what is asked for; partitions of topics that are gone leave the snapshot. */
static void
mark_logs(OutboxLagSnapshot *snapshot, const LogEnds *ends)
{
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		OutboxLagGroup *group = &snapshot->groups[i];

		for (size_t j = group->partition_count; j > 0; j--)
		{
			OutboxLagPartition *partition = &group->partitions[j - 1];
			LogEnd	   *log = find_log(ends, partition->topic, partition->partition);

			if (log == NULL)
				outbox_group_drop(group, partition);
			else
				log->wanted = true;
		}
	}
}

/* A handle keeps asking the leaders it knows, also one that is gone, until it hears of others. */
static void
refresh_leaders(OutboxKafkaLag *kafka, rd_kafka_t *rk)
{
	const rd_kafka_metadata_t *metadata;

	if (rd_kafka_metadata(rk, 1, NULL, &metadata, kafka->timeout_ms) == RD_KAFKA_RESP_ERR_NO_ERROR)
		rd_kafka_metadata_destroy(metadata);
}

/* Asks one handle for the ends of all logs that are wanted. */
static bool
ask_ends(OutboxKafkaLag *kafka, rd_kafka_t *rk, LogEnds *ends, char *error, size_t size)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1024);
	rd_kafka_resp_err_t err = RD_KAFKA_RESP_ERR_NO_ERROR;

	for (size_t i = 0; i < ends->count; i++)
	{
		const LogEnd *log = &ends->logs[i];

		/* In place of a time: "latest". */
		if (log->wanted && log->led)
			rd_kafka_topic_partition_list_add(list, log->topic, log->partition)->offset = RD_KAFKA_OFFSET_END;
	}
	if (list->cnt > 0)
		err = rd_kafka_offsets_for_times(rk, list, kafka->timeout_ms);
	for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < list->cnt; i++)
	{
		const rd_kafka_topic_partition_t *found = &list->elems[i];
		LogEnd	   *log = find_log(ends, found->topic, found->partition);

		if (found->err == RD_KAFKA_RESP_ERR_NO_ERROR && found->offset >= 0)
			*(rk == kafka->committed ? &log->stable : &log->high) = found->offset;
	}
	rd_kafka_topic_partition_list_destroy(list);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		return true;
	refresh_leaders(kafka, rk);
	return fail(error, size, "ends of the logs", err);
}

static void
note_ends(OutboxLagSnapshot *snapshot, const LogEnds *ends)
{
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		for (size_t j = 0; j < snapshot->groups[i].partition_count; j++)
		{
			OutboxLagPartition *partition = &snapshot->groups[i].partitions[j];
			const LogEnd *log = find_log(ends, partition->topic, partition->partition);

			partition->end = log->high;
			partition->stable = log->stable;
			if (partition->committed == OUTBOX_LAG_NULL || partition->stable == OUTBOX_LAG_NULL)
				continue;
			partition->lag = partition->stable - partition->committed;
			if (partition->lag < 0 || partition->clear_to >= partition->stable)
				partition->lag = 0;
		}
	}
}

static bool
read_ends(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot, char *error, size_t size)
{
	const rd_kafka_metadata_t *metadata;
	rd_kafka_resp_err_t err;
	LogEnds		ends;
	bool		good;

	err = rd_kafka_metadata(kafka->committed, 1, NULL, &metadata, kafka->timeout_ms);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		return fail(error, size, "topics", err);
	ends = list_logs(metadata);
	mark_logs(snapshot, &ends);
	good = ask_ends(kafka, kafka->committed, &ends, error, size) &&
		ask_ends(kafka, kafka->uncommitted, &ends, error, size);
	if (good)
		note_ends(snapshot, &ends);
	free(ends.logs);
	rd_kafka_metadata_destroy(metadata);
	return good;
}

/* By place in the log, so that groups which stand at the same record share an answer. */
static int
compare_questions(const void *a, const void *b)
{
	const OutboxLagPartition *one = ((const Question *) a)->partition;
	const OutboxLagPartition *two = ((const Question *) b)->partition;
	int			order = strcmp(one->topic, two->topic);

	if (order == 0)
		order = (one->partition > two->partition) - (one->partition < two->partition);
	if (order == 0)
		order = (one->committed > two->committed) - (one->committed < two->committed);
	return order;
}

/* The partitions with lag of which no fresh age is known.  The caller frees. */
static Question *
collect_questions(OutboxLagSnapshot *snapshot, size_t *count)
{
	Question   *questions;
	size_t		room = 1;

	for (size_t i = 0; i < snapshot->group_count; i++)
		room += snapshot->groups[i].partition_count;
	questions = calloc(room, sizeof(Question));
	if (questions == NULL)
		abort();
	*count = 0;
	for (size_t i = 0; i < snapshot->group_count; i++)
	{
		for (size_t j = 0; j < snapshot->groups[i].partition_count; j++)
		{
			OutboxLagPartition *partition = &snapshot->groups[i].partitions[j];

			if (partition->lag <= 0 || (partition->pending_ms != OUTBOX_LAG_NULL &&
										outbox_clock_ms() - partition->pending_read_at < REREAD_MS))
				continue;
			questions[(*count)++].partition = partition;
		}
	}
	qsort(questions, *count, sizeof(Question), compare_questions);
	return questions;
}

static bool
same_log(const OutboxLagPartition *one, const OutboxLagPartition *two)
{
	return one->partition == two->partition && strcmp(one->topic, two->topic) == 0;
}

/* The next place of each log, ROUND_MAX at most.  The caller destroys the list. */
static rd_kafka_topic_partition_list_t *
choose_round(Question *questions, size_t count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(ROUND_MAX);
	const OutboxLagPartition *last = NULL;

	for (size_t i = 0; i < count; i++)
	{
		OutboxLagPartition *partition = questions[i].partition;

		questions[i].asked = false;
		if (questions[i].done)
			continue;
		if (last == NULL || !same_log(last, partition))
		{
			if (list->cnt == ROUND_MAX)
				continue;
			rd_kafka_topic_partition_list_add(list, partition->topic, partition->partition)->offset =
				partition->committed;
			last = partition;
		}
		questions[i].asked = partition->committed == last->committed;
	}
	return list;
}

/* Gives the answer to whoever stands at this place: a time stamp, or OUTBOX_LAG_NULL for no record. */
static void
give_answer(Question *questions, size_t count, const char *topic, int32_t number, int64_t timestamp_ms,
			bool record)
{
	for (size_t i = 0; i < count; i++)
	{
		OutboxLagPartition *partition = questions[i].partition;

		if (!questions[i].asked || questions[i].done || partition->partition != number ||
			strcmp(partition->topic, topic) != 0)
			continue;
		questions[i].done = true;
		partition->pending_ms = record && timestamp_ms >= 0 ? timestamp_ms : OUTBOX_LAG_NULL;
		partition->pending_read_at = outbox_clock_ms();
		if (!record)
		{
			partition->lag = 0;
			partition->clear_to = partition->stable;
		}
	}
}

/* Is an answer for this log still waited for? */
static bool
is_open(const Question *questions, size_t count, const char *topic, int32_t number)
{
	for (size_t i = 0; i < count; i++)
	{
		if (questions[i].asked && !questions[i].done && questions[i].partition->partition == number &&
			strcmp(questions[i].partition->topic, topic) == 0)
			return true;
	}
	return false;
}

static void
pause_partition(rd_kafka_t *rk, const char *topic, int32_t partition)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

	rd_kafka_topic_partition_list_add(list, topic, partition);
	rd_kafka_pause_partitions(rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Reads until every partition of the round has answered or the time is over. */
static void
read_round(OutboxKafkaLag *kafka, Question *questions, size_t count, int left, int64_t deadline)
{
	while (left > 0 && outbox_clock_ms() < deadline)
	{
		rd_kafka_message_t *message = rd_kafka_consumer_poll(kafka->committed, 100);
		rd_kafka_timestamp_type_t type;
		bool		record;

		if (message == NULL)
			continue;
		record = message->err == RD_KAFKA_RESP_ERR_NO_ERROR;
		if (message->rkt != NULL && (record || message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF))
		{
			const char *topic = rd_kafka_topic_name(message->rkt);

			if (is_open(questions, count, topic, message->partition))
			{
				give_answer(questions, count, topic, message->partition,
							record ? rd_kafka_message_timestamp(message, &type) : OUTBOX_LAG_NULL, record);
				if (record)
					pause_partition(kafka->committed, topic, message->partition);
				left--;
			}
		}
		rd_kafka_message_destroy(message);
	}
}

/* Ages, in rounds of all logs at once; what is not answered in time stays unknown. */
static void
read_ages(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot)
{
	int64_t		deadline = outbox_clock_ms() + kafka->timeout_ms;
	size_t		count;
	Question   *questions = collect_questions(snapshot, &count);

	while (outbox_clock_ms() < deadline)
	{
		rd_kafka_topic_partition_list_t *round = choose_round(questions, count);
		int			size = round->cnt;

		if (size > 0 && rd_kafka_assign(kafka->committed, round) == RD_KAFKA_RESP_ERR_NO_ERROR)
			read_round(kafka, questions, count, size, deadline);
		/* The pause of a partition outlives its assignment. */
		if (size > 0)
			rd_kafka_resume_partitions(kafka->committed, round);
		rd_kafka_topic_partition_list_destroy(round);
		if (size == 0)
			break;
		rd_kafka_assign(kafka->committed, NULL);
	}
	free(questions);
}

bool
outbox_kafka_lag_measure(OutboxKafkaLag *kafka, OutboxLagSnapshot *snapshot, OutboxLagSnapshot *before,
						 bool (*wanted) (const char *group), char *error, size_t error_size)
{
	snapshot->measured_ms = outbox_wall_ms();
	if (!outbox_kafka_groups_read(kafka, snapshot, before, wanted, error, error_size))
		return false;
	outbox_snapshot_carry(snapshot, before);
	if (snapshot->group_count > 0 && !read_ends(kafka, snapshot, error, error_size))
		return false;
	outbox_snapshot_prune(snapshot);
	read_ages(kafka, snapshot);
	return true;
}
