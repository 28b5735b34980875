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
#include <unistd.h>

#include "consumer_client.h"
#include "consumer_conf.h"
#include "consumer_topic.h"
#include "services/kafka/digest.h"
#include "services/kafka/kafka_conf.h"
#include "services/kafka/record.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"

#define STEP_MAX_MS	   4000 /* of each step of a look: leaders, ranges, records */
#define REQUEST_MAX_MS 2000
#define WAIT_STEP_MS   20
#define WAKE_EVERY_MS  200

struct OutboxLogReader
{
	rd_kafka_t *rk;
	atomic_bool ending; /* set by another thread: what is under way is cut short */
};

OutboxLogReader *
outbox_log_reader_open(const OutboxConsumerConfig *config)
{
	OutboxLogReader *reader = calloc(1, sizeof(*reader));
	rd_kafka_conf_t *conf = outbox_consumer_make_reader_conf(config);
	char			 reason[512] = "";
	char			 error[512];

	if (reader != NULL && conf != NULL)
		reader->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	if (reader != NULL && reader->rk != NULL)
		return reader;
	outbox_kafka_conf_hide(reason, config->properties, OUTBOX_KAFKA_CONSUMER, error, sizeof(error));
	outbox_log(OUTBOX_LOG_ERROR, "kafka_client_failed", "%s", error);
	if (conf != NULL)
		rd_kafka_conf_destroy(conf);
	free(reader);
	return NULL;
}

/* How long a request may take. */
static int
request_ms(int64_t deadline)
{
	int64_t left = deadline - outbox_clock_ms();

	return left < 1 ? 1 : left < REQUEST_MAX_MS ? (int) left : REQUEST_MAX_MS;
}

/* The partition's leader; -1: there is none, or no such partition. */
static int32_t
find_leader(const rd_kafka_metadata_t *metadata, const OutboxLogProbe *probe)
{
	for (int i = 0; i < metadata->topic_cnt; i++)
	{
		const rd_kafka_metadata_topic_t *topic = &metadata->topics[i];

		for (int j = 0; strcmp(topic->topic, probe->topic) == 0 && j < topic->partition_cnt; j++)
		{
			if (topic->partitions[j].id == probe->partition)
				return topic->partitions[j].leader;
		}
	}
	return -1;
}

/*
 * Asks who leads the partitions, which the client then knows: an earlier leader may have another
 * log.  One request for all topics; another one, for any broker may be asked, also one that does
 * not answer.
 */
static void
find_leaders(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	const rd_kafka_metadata_t *metadata = NULL;
	int64_t					   deadline = outbox_clock_ms() + STEP_MAX_MS;
	bool					   known = false;

	while (!known && !reader->ending && outbox_clock_ms() < deadline)
	{
		known = rd_kafka_metadata(reader->rk, 0, NULL, &metadata, request_ms(deadline)) ==
			RD_KAFKA_RESP_ERR_NO_ERROR;
		if (!known && !reader->ending)
			usleep(WAIT_STEP_MS * 1000);
	}
	for (int i = 0; i < count; i++)
	{
		probes[i].leader = known ? find_leader(metadata, &probes[i]) : -1;
		probes[i].present = probes[i].leader >= 0;
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
		probes[i].silent = probes[i].told = false;
		probes[i].handle = rd_kafka_topic_new(reader->rk, probes[i].topic, NULL);
	}
	find_leaders(reader, probes, count);
	for (int i = 0; i < count; i++)
	{
		if (!probes[i].answered &&
			rd_kafka_consume_start_queue(probes[i].handle, probes[i].partition, probes[i].offset,
										 queue) != 0)
		{
			probes[i].present = false;
			probes[i].answered = true;
		}
	}
}

/*
 * Asks one leader for an end, RD_KAFKA_OFFSET_BEGINNING or _END, of its partitions' logs; offsets[]
 * as the probes, -1 where it is not known.  query_watermark_offsets would wait without end for a
 * leader that is gone.
 */
static rd_kafka_resp_err_t
ask_offsets(OutboxLogReader *reader, OutboxLogProbe *const *probes, int count, int64_t which,
			int wait_ms, int64_t *offsets)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);
	rd_kafka_resp_err_t				 err;

	for (int i = 0; i < count; i++)
		rd_kafka_topic_partition_list_add(list, probes[i]->topic, probes[i]->partition)->offset =
			which;
	err = rd_kafka_offsets_for_times(reader->rk, list, wait_ms);
	for (int i = 0; i < count; i++)
	{
		const rd_kafka_topic_partition_t *answer = &list->elems[i];

		offsets[i] = err == RD_KAFKA_RESP_ERR_NO_ERROR &&
				answer->err == RD_KAFKA_RESP_ERR_NO_ERROR && answer->offset >= 0 ?
			answer->offset :
			-1;
	}
	rd_kafka_topic_partition_list_destroy(list);
	return err;
}

/* The ranges of partitions of one leader. */
static rd_kafka_resp_err_t
read_ranges_of(OutboxLogReader *reader, OutboxLogProbe *const *probes, int count, int64_t deadline)
{
	int64_t				low[count];
	int64_t				high[count];
	rd_kafka_resp_err_t err;

	err = ask_offsets(reader, probes, count, RD_KAFKA_OFFSET_BEGINNING, request_ms(deadline), low);
	if (err == RD_KAFKA_RESP_ERR_NO_ERROR)
		err = ask_offsets(reader, probes, count, RD_KAFKA_OFFSET_END, request_ms(deadline), high);
	for (int i = 0; err == RD_KAFKA_RESP_ERR_NO_ERROR && i < count; i++)
	{
		probes[i]->view.range_known = low[i] >= 0 && high[i] >= low[i];
		probes[i]->view.low = low[i];
		probes[i]->view.high = high[i];
	}
	return err;
}

/*
 * One request for all that the leader has; where it is refused, for one of them spoils it, each by
 * itself.
 */
static void
ask_leader(OutboxLogReader *reader, OutboxLogProbe **probes, int count, int64_t deadline)
{
	rd_kafka_resp_err_t err = read_ranges_of(reader, probes, count, deadline);

	for (int i = 0; i < count && count > 1 && err != RD_KAFKA_RESP_ERR_NO_ERROR &&
		 err != RD_KAFKA_RESP_ERR__TIMED_OUT && err != RD_KAFKA_RESP_ERR__TRANSPORT &&
		 !reader->ending && outbox_clock_ms() < deadline;
		 i++)
		(void) read_ranges_of(reader, &probes[i], 1, deadline);
	for (int i = 0; i < count; i++)
		probes[i]->silent =
			err == RD_KAFKA_RESP_ERR__TIMED_OUT || err == RD_KAFKA_RESP_ERR__TRANSPORT;
}

/* After the records are asked for: what is deleted meanwhile must not seem to be there. */
static void
read_ranges(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	int64_t			deadline = outbox_clock_ms() + STEP_MAX_MS;
	OutboxLogProbe *same[count];

	for (int i = 0; i < count; i++)
	{
		int	 found = 0;
		bool first = probes[i].present;

		for (int j = 0; j < i; j++)
			first = first && !(probes[j].present && probes[j].leader == probes[i].leader);
		for (int j = i; first && j < count; j++)
		{
			if (probes[j].present && probes[j].leader == probes[i].leader)
				same[found++] = &probes[j];
		}
		if (found > 0 && !reader->ending && outbox_clock_ms() < deadline)
			ask_leader(reader, same, found, deadline);
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
 * Has the client read at once: without a request to their brokers it looks at partitions just
 * started after up to 1 s only.  The answer is not waited for.
 */
static void
wake_client(OutboxLogReader *reader, const OutboxLogProbe *probes, int count)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);

	for (int i = 0; i < count; i++)
	{
		if (!probes[i].answered)
			rd_kafka_topic_partition_list_add(list, probes[i].topic, probes[i].partition);
	}
	outbox_client_wake(reader->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

static void
take_message(OutboxLogProbe *probes, int count, const rd_kafka_message_t *message)
{
	for (int i = 0; message->rkt != NULL && i < count; i++)
	{
		if (!probes[i].answered && probes[i].partition == message->partition &&
			strcmp(probes[i].topic, rd_kafka_topic_name(message->rkt)) == 0)
			note_message(&probes[i], message);
	}
}

/* What may still come: not of a leader that has not answered. */
static bool
is_awaited(const OutboxLogProbe *probes, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (!probes[i].answered && !probes[i].silent)
			return true;
	}
	return false;
}

/* Polls until each probe has had its record, the log's end or an error. */
static void
read_records(OutboxLogReader *reader, OutboxLogProbe *probes, int count, rd_kafka_queue_t *queue)
{
	int64_t deadline = outbox_clock_ms() + STEP_MAX_MS;
	int64_t wake_at = 0;

	while (is_awaited(probes, count) && !reader->ending && outbox_clock_ms() < deadline)
	{
		rd_kafka_message_t *message = rd_kafka_consume_queue(queue, WAIT_STEP_MS);

		if (message != NULL)
		{
			take_message(probes, count, message);
			rd_kafka_message_destroy(message);
		}
		else if (outbox_clock_ms() >= wake_at)
		{
			wake_client(reader, probes, count);
			wake_at = outbox_clock_ms() + WAKE_EVERY_MS;
		}
	}
}

/* Is there no record at the offset, though it lies within the log, and it was not asked why? */
static bool
has_gap(const OutboxLogProbe *probe)
{
	return !probe->told && probe->view.found == OUTBOX_FOUND_NONE && probe->view.range_known &&
		probe->offset >= probe->view.low && probe->offset < probe->view.high;
}

/*
 * Whether a record that is not there is proof depends on the topic, which is asked once.  One that
 * refuses to tell is taken for compacted, for ever: there are no proofs from gaps then.
 */
static void
read_policies(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	for (int i = 0; i < count; i++)
	{
		OutboxTopicAnswer answer = OUTBOX_TOPIC_SILENT;
		bool			  keeps_all = false;
		int64_t			  ms;

		if (!has_gap(&probes[i]))
			continue;
		if (!reader->ending)
			answer = outbox_topic_retention(reader->rk, probes[i].topic, REQUEST_MAX_MS, &ms,
											&keeps_all);
		for (int j = count - 1; j >= i; j--)
		{
			if (strcmp(probes[j].topic, probes[i].topic) != 0 || !has_gap(&probes[j]))
				continue;
			probes[j].view.keeps_all = keeps_all;
			probes[j].told = true;
			if (answer == OUTBOX_TOPIC_SILENT)
				probes[j].view.found = OUTBOX_FOUND_UNREAD;
		}
	}
}

void
outbox_log_reader_look(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	rd_kafka_queue_t *queue = rd_kafka_queue_new(reader->rk);

	begin_look(reader, probes, count, queue);
	read_ranges(reader, probes, count);
	read_records(reader, probes, count, queue);
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
