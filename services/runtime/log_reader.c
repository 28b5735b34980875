/* SPDX-License-Identifier: PostgreSQL
 *
 * log_reader.c
 *	  Looks at single records of logs, with librdkafka's simple consumer.
 *
 * Runs in the services, on the thread of log_check.c.
 */
#include "log_reader.h"

#include <librdkafka/rdkafka.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "consumer_conf.h"
#include "consumer_topic.h"
#include "digest.h"
#include "log.h"
#include "record.h"

#define LOOK_MAX_MS		5000	/* of a call, but for its last request */
#define REQUEST_MAX_MS	2000
#define WAIT_STEP_MS	20
#define WAKE_TIMEOUT_MS	1

struct OutboxLogReader
{
	rd_kafka_t *rk;
	atomic_bool ending;			/* set by another thread: what is under way is cut short */
};

OutboxLogReader *
outbox_log_reader_open(const OutboxConsumerConfig *config)
{
	OutboxLogReader *reader = calloc(1, sizeof(*reader));
	rd_kafka_conf_t *conf = outbox_consumer_make_reader_conf(config);
	char		reason[512] = "";

	if (reader != NULL && conf != NULL)
		reader->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	if (reader != NULL && reader->rk != NULL)
		return reader;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_client_failed", NULL, "%s", reason);
	if (conf != NULL)
		rd_kafka_conf_destroy(conf);
	free(reader);
	return NULL;
}

static bool
has_partition(const rd_kafka_metadata_t *metadata, int32_t partition)
{
	const rd_kafka_metadata_topic_t *topic = &metadata->topics[0];

	for (int i = 0; metadata->topic_cnt == 1 && i < topic->partition_cnt; i++)
	{
		if (topic->partitions[i].id == partition)
			return topic->partitions[i].leader >= 0;
	}
	return false;
}

/*
 * Asks who leads the partitions of the first probe's topic, which the client then knows: an earlier leader
 * may have another log.
 */
static void
find_leaders(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	const rd_kafka_metadata_t *metadata = NULL;
	bool		known;

	known = !reader->ending && rd_kafka_metadata(reader->rk, 0, probes[0].handle, &metadata,
							  REQUEST_MAX_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
	for (int i = 0; i < count; i++)
	{
		if (strcmp(probes[i].topic, probes[0].topic) != 0)
			continue;
		probes[i].present = known && has_partition(metadata, probes[i].partition);
		probes[i].answered = !probes[i].present || probes[i].offset < 0;
	}
	if (known)
		rd_kafka_metadata_destroy(metadata);
}

static void
begin_look(OutboxLogReader *reader, OutboxLogProbe *probes, int count, rd_kafka_queue_t *queue)
{
	for (int i = 0; i < count; i++)
	{
		memset(&probes[i].view, 0, sizeof(probes[i].view));
		probes[i].handle = rd_kafka_topic_new(reader->rk, probes[i].topic, NULL);
	}
	for (int i = 0; i < count; i++)
	{
		bool		first = true;

		for (int j = 0; j < i; j++)
			first = first && strcmp(probes[j].topic, probes[i].topic) != 0;
		if (first)
			find_leaders(reader, &probes[i], count - i);
	}
	for (int i = 0; i < count; i++)
	{
		if (!probes[i].answered && rd_kafka_consume_start_queue(probes[i].handle, probes[i].partition,
																probes[i].offset, queue) != 0)
			probes[i].answered = probes[i].present = false;
	}
}

/* After the records are asked for: what is deleted meanwhile must not seem to be there. */
static void
read_ranges(OutboxLogReader *reader, OutboxLogProbe *probes, int count, int64_t deadline)
{
	for (int i = 0; i < count; i++)
	{
		OutboxLogView *view = &probes[i].view;

		if (!probes[i].present || reader->ending || outbox_clock_ms() > deadline)
			continue;
		view->range_known = rd_kafka_query_watermark_offsets(reader->rk, probes[i].topic, probes[i].partition,
															 &view->low, &view->high, REQUEST_MAX_MS)
			== RD_KAFKA_RESP_ERR_NO_ERROR;
	}
}

static void
note_message(OutboxLogProbe *probe, const rd_kafka_message_t *message)
{
	rd_kafka_timestamp_type_t type;

	probe->answered = true;
	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
		probe->view.found = OUTBOX_FOUND_NONE;
	else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset > probe->offset)
		probe->view.found = OUTBOX_FOUND_NONE;
	else if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR && message->offset == probe->offset)
	{
		probe->view.found = OUTBOX_FOUND_RECORD;
		probe->view.timestamp_ms = outbox_record_time(rd_kafka_message_timestamp(message, &type));
		probe->view.digest = (int64_t) outbox_record_digest(message->key, message->key_len,
															message->payload, message->len);
	}
}

/*
 * Has the client read at once: without a request to their brokers it looks at partitions just started after
 * up to 1 s only.  The answer is not waited for.
 */
static void
wake_client(OutboxLogReader *reader, const OutboxLogProbe *probes, int count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);

	for (int i = 0; i < count; i++)
	{
		if (!probes[i].answered)
			rd_kafka_topic_partition_list_add(list, probes[i].topic, probes[i].partition)->offset =
				RD_KAFKA_OFFSET_END;
	}
	if (list->cnt > 0)
		(void) rd_kafka_offsets_for_times(reader->rk, list, WAKE_TIMEOUT_MS);
	rd_kafka_topic_partition_list_destroy(list);
}

/* Polls until each probe has had its record, the log's end or an error. */
static void
read_records(OutboxLogReader *reader, OutboxLogProbe *probes, int count, rd_kafka_queue_t *queue, int64_t deadline)
{
	int			open = 0;

	for (int i = 0; i < count; i++)
		open += !probes[i].answered;
	while (open > 0 && !reader->ending && outbox_clock_ms() < deadline)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, WAIT_STEP_MS);

		if (message == NULL)
			wake_client(reader, probes, count);

		for (int i = 0; message != NULL && message->rkt != NULL && i < count; i++)
		{
			if (probes[i].answered || probes[i].partition != message->partition ||
				strcmp(probes[i].topic, rd_kafka_topic_name(message->rkt)) != 0)
				continue;
			note_message(&probes[i], message);
			open--;
		}
		if (message != NULL)
			rd_kafka_message_destroy(message);
	}
}

/* Whether a record that is not there is proof depends on the topic. */
static void
read_policies(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	int64_t		ms;

	for (int i = 0; i < count; i++)
	{
		if (!reader->ending && probes[i].view.found == OUTBOX_FOUND_NONE && probes[i].view.range_known &&
			probes[i].offset >= probes[i].view.low && probes[i].offset < probes[i].view.high &&
			!outbox_topic_retention(reader->rk, probes[i].topic, &ms, &probes[i].view.keeps_all))
			probes[i].view.found = OUTBOX_FOUND_UNREAD;
	}
}

void
outbox_log_reader_look(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	int64_t		deadline = outbox_clock_ms() + LOOK_MAX_MS;
	rd_kafka_queue_t *queue = rd_kafka_queue_new(reader->rk);

	begin_look(reader, probes, count, queue);
	read_ranges(reader, probes, count, deadline);
	read_records(reader, probes, count, queue, deadline);
	for (int i = 0; i < count; i++)
	{
		if (probes[i].present && probes[i].offset >= 0)
			rd_kafka_consume_stop(probes[i].handle, probes[i].partition);
		rd_kafka_topic_destroy(probes[i].handle);
		probes[i].handle = NULL;
	}
	rd_kafka_queue_destroy(queue);
	read_policies(reader, probes, count);
}

void
outbox_log_reader_end(OutboxLogReader *reader)
{
	reader->ending = true;
}

void
outbox_log_reader_close(OutboxLogReader *reader)
{
	outbox_client_destroy(reader->rk);
	free(reader);
}
