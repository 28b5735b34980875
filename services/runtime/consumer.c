/* SPDX-License-Identifier: PostgreSQL
 *
 * consumer.c
 *	  A member of a consumer group on librdkafka.  Only this file, consumer_client.c,
 *	  consumer_conf.c, consumer_topic.c and log_reader.c call it in the runtime.
 *
 * Runs in the services, on the member's thread; the callbacks run inside
 * outbox_consumer_poll and outbox_consumer_close.
 *
 * Made for librdkafka 2.0.2; what it works around is in services/kafka/README.md.
 */
#include "consumer.h"

#include <librdkafka/rdkafka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "anchor.h"
#include "client_watch.h"
#include "consumer_client.h"
#include "consumer_conf.h"
#include "consumer_topic.h"
#include "log_check.h"
#include "service_metrics.h"
#include "services/kafka/kafka_conf.h"
#include "services/kafka/message.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"

#define PARTITIONS_MAX		4096
#define ANSWER_TIMEOUT_MS	10000
#define REBALANCE_MS		2000
/* times the failures in a row, before a lost position is looked for */
#define BROKEN_PAUSE_MS		100
#define BROKEN_PAUSE_MAX_MS 5000
#define LEAVE_STEP_MS		50
#define LEAVE_MAX_MS		8000

struct OutboxConsumer
{
	rd_kafka_t		 *rk;
	OutboxPartition	 *partitions[PARTITIONS_MAX];
	size_t			  partition_count;
	bool			  assigned;
	bool			  rebalanced;		 /* since it was cleared */
	int64_t			  rebalancing_until; /* some time after the last rebalance, outbox_clock_ms */
	bool			  is_static;
	bool			  fatal;
	OutboxClientWatch watch;
};

static OutboxPartition *
find_partition(OutboxConsumer *consumer, const char *topic, int32_t number)
{
	OutboxPartition *partition;

	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		partition = consumer->partitions[i];
		if (partition->partition == number && strcmp(partition->topic, topic) == 0)
			return partition;
	}
	if (consumer->partition_count == PARTITIONS_MAX)
		return NULL;
	partition = calloc(1, sizeof(*partition));
	if (partition == NULL || (partition->topic = strdup(topic)) == NULL)
		abort(); /* no memory for a hundred bytes */
	partition->partition = number;
	consumer->partitions[consumer->partition_count++] = partition;
	return partition;
}

static void
take_partition(OutboxConsumer *consumer, rd_kafka_topic_partition_t *assigned)
{
	OutboxPartition *partition = find_partition(consumer, assigned->topic, assigned->partition);

	if (partition == NULL)
	{
		outbox_log(OUTBOX_LOG_ERROR, "too_many_partitions", "%s [%d] is not read", assigned->topic,
				   (int) assigned->partition);
		return;
	}
	partition->owned = true;
	partition->active = partition->halted = partition->store_due = false;
	partition->watermark = partition->stored = -1;
	outbox_consumer_forget(partition);
	partition->unfinished = partition->in_window = 0;
	partition->held_back = false;
	partition->suspect_count = 0;
	partition->resume_at = 0;
	partition->failures = 0;
	partition->noted = partition->drained = false;
	partition->alone = 0;
	partition->taken = true;
	partition->progress_at = -1;
	outbox_log_check_forget(partition->question);
	partition->question = NULL;
	partition->anchor_count = 0;
	partition->newest.offset = partition->suspect.offset = partition->waiting.offset = -1;
	partition->check_at = 0;
	partition->doubtful = partition->unproven = partition->broken = partition->went_back = false;
	partition->verify = partition->refused = false;
	partition->seeks_refused = 0;
}

static void
log_assignment(const char *event, const rd_kafka_topic_partition_list_t *list)
{
	char   text[1024] = "";
	size_t used = 0;

	for (int i = 0; i < list->cnt && used < sizeof(text) - 1; i++)
		used += (size_t) snprintf(text + used, sizeof(text) - used, "%s%s[%d]", i > 0 ? " " : "",
								  list->elems[i].topic, (int) list->elems[i].partition);
	outbox_log(OUTBOX_LOG_INFO, event, "%s", text);
}

static void
on_rebalance(rd_kafka_t *rk, rd_kafka_resp_err_t err, rd_kafka_topic_partition_list_t *list,
			 void *arg)
{
	OutboxConsumer	 *consumer = arg;
	rd_kafka_error_t *error = NULL;
	const char		 *kind = "failed";

	if (err == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
	{
		kind = "assigned";
		log_assignment("partitions_assigned", list);
		/* Paused at once and started by outbox_consumer_start: the offset does not matter. */
		for (int i = 0; i < list->cnt; i++)
		{
			list->elems[i].offset = 0;
			take_partition(consumer, &list->elems[i]);
		}
		error = rd_kafka_incremental_assign(rk, list);
		if (error == NULL && list->cnt > 0)
			rd_kafka_pause_partitions(rk, list);
		consumer->assigned = true;
	}
	else if (err == RD_KAFKA_RESP_ERR__REVOKE_PARTITIONS)
	{
		/*
		 * Nothing is in hand: what is done is stored, and of lost ones the client commits nothing.
		 */
		kind = rd_kafka_assignment_lost(rk) ? "lost" : "revoked";
		log_assignment(kind[0] == 'l' ? "partitions_lost" : "partitions_revoked", list);
		for (int i = 0; i < list->cnt; i++)
		{
			OutboxPartition *partition;

			partition = find_partition(consumer, list->elems[i].topic, list->elems[i].partition);
			if (partition != NULL)
				partition->owned = partition->active = partition->halted = false;
		}
		error = rd_kafka_incremental_unassign(rk, list);
	}
	else
	{
		outbox_log(OUTBOX_LOG_ERROR, "rebalance_failed", "%s", rd_kafka_err2str(err));
		for (size_t i = 0; i < consumer->partition_count; i++)
			consumer->partitions[i]->owned = consumer->partitions[i]->active = false;
		rd_kafka_assign(rk, NULL);
	}
	if (error != NULL)
	{
		outbox_log(OUTBOX_LOG_ERROR, "rebalance_failed", "%s", rd_kafka_error_string(error));
		rd_kafka_error_destroy(error);
	}
	consumer->rebalanced = true;
	consumer->rebalancing_until = outbox_clock_ms() + REBALANCE_MS;
	outbox_count_rebalance(kind);
	/*
	 * The poll returns: partitions taken are started at once, notes of those left are taken back.
	 */
	rd_kafka_yield(rk);
}

/* Either way a fatal error comes: by on_error or in the place of a record. */
static void
note_error(OutboxConsumer *consumer, rd_kafka_resp_err_t err, const char *reason)
{
	char cause[512];

	if (err != RD_KAFKA_RESP_ERR__FATAL)
		outbox_log(OUTBOX_LOG_WARNING, "kafka_error", "%s: %s", rd_kafka_err2name(err), reason);
	else if (rd_kafka_fatal_error(consumer->rk, cause, sizeof(cause)) ==
			 RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID)
		outbox_log(OUTBOX_LOG_ERROR, "instance_id_taken",
				   "another process joined the group with this one's group_instance_id: %s", cause);
	else
		outbox_log(OUTBOX_LOG_ERROR, "kafka_client_failed", "%s", cause);
	consumer->fatal = consumer->fatal || err == RD_KAFKA_RESP_ERR__FATAL;
}

/* May a log have been made anew, or come to another leader, where such an error is told? */
static bool
casts_doubt(rd_kafka_resp_err_t err)
{
	switch (err)
	{
		case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
		case RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE:
		case RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION:
		case RD_KAFKA_RESP_ERR_FENCED_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_UNKNOWN_LEADER_EPOCH:
		case RD_KAFKA_RESP_ERR_OFFSET_OUT_OF_RANGE:
		case RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC:
		case RD_KAFKA_RESP_ERR__UNKNOWN_PARTITION:
		case RD_KAFKA_RESP_ERR__TRANSPORT:
		case RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN:
			return true;
		default:
			return false;
	}
}

/* Has the logs of the topic, NULL: all of them, checked soon. */
static void
doubt_logs(OutboxConsumer *consumer, rd_kafka_resp_err_t err, const char *topic)
{
	for (size_t i = 0; casts_doubt(err) && i < consumer->partition_count; i++)
	{
		OutboxPartition *partition = consumer->partitions[i];

		if (topic != NULL && strcmp(partition->topic, topic) != 0)
			continue;
		partition->check_at = 0;
		outbox_suspect_doubt(&partition->suspect, &partition->newest);
		partition->overtaken = partition->question != NULL;
	}
}

static void
on_error(rd_kafka_t *rk, int err, const char *reason, void *arg)
{
	(void) rk;
	note_error(arg, (rd_kafka_resp_err_t) err, reason);
	doubt_logs(arg, (rd_kafka_resp_err_t) err, NULL);
}

/* The client's main thread makes the statistics, every 5 s. */
static int
on_statistics(rd_kafka_t *rk, char *json, size_t len, void *arg)
{
	OutboxConsumer *consumer = arg;

	(void) rk;
	(void) json;
	(void) len;
	consumer->watch.heard = true;
	return 0;
}

/* After each poll: a client that hangs looks like one without records. */
static void
watch_client(OutboxConsumer *consumer, bool record)
{
	consumer->watch.heard = consumer->watch.heard || record;
	if (outbox_client_watch_polled(&consumer->watch, outbox_clock_ms()) || consumer->fatal)
		return;
	outbox_log(OUTBOX_LOG_ERROR, "kafka_client_hung",
			   "the Kafka client's main thread has been silent for %d s",
			   OUTBOX_CLIENT_SILENT_MS / 1000);
	consumer->fatal = true;
}

static bool
subscribe(OutboxConsumer *consumer, const OutboxConsumerConfig *config)
{
	rd_kafka_topic_partition_list_t *list;
	rd_kafka_resp_err_t				 err;

	list = rd_kafka_topic_partition_list_new((int) config->topic_count);
	for (size_t i = 0; i < config->topic_count; i++)
		rd_kafka_topic_partition_list_add(list, config->topics[i], RD_KAFKA_PARTITION_UA);
	err = rd_kafka_subscribe(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR)
		outbox_log(OUTBOX_LOG_ERROR, "subscribe_failed", "%s", rd_kafka_err2str(err));
	return err == RD_KAFKA_RESP_ERR_NO_ERROR;
}

OutboxConsumer *
outbox_consumer_open(const OutboxConsumerConfig *config)
{
	OutboxConsumer	*consumer = calloc(1, sizeof(*consumer));
	rd_kafka_conf_t *conf = outbox_consumer_make_conf(config);
	char			 reason[512];
	char			 error[512];

	if (consumer == NULL || conf == NULL)
	{
		free(consumer);
		return NULL;
	}
	consumer->is_static = config->instance_id != NULL;
	rd_kafka_conf_set_opaque(conf, consumer);
	rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
	rd_kafka_conf_set_error_cb(conf, on_error);
	rd_kafka_conf_set_stats_cb(conf, on_statistics);
	outbox_client_watch_begin(&consumer->watch, outbox_clock_ms());
	consumer->rk = rd_kafka_new(RD_KAFKA_CONSUMER, conf, reason, sizeof(reason));
	if (consumer->rk == NULL)
	{
		outbox_kafka_conf_hide(reason, config->properties, OUTBOX_KAFKA_CONSUMER, error,
							   sizeof(error));
		outbox_log(OUTBOX_LOG_ERROR, "kafka_client_failed", "%s", error);
		rd_kafka_conf_destroy(conf);
		free(consumer);
		return NULL;
	}
	rd_kafka_poll_set_consumer(consumer->rk);
	if (subscribe(consumer, config))
		return consumer;
	rd_kafka_destroy(consumer->rk);
	free(consumer);
	return NULL;
}

static bool
fill_record(OutboxConsumer *consumer, rd_kafka_message_t *message, OutboxRecord *record)
{
	rd_kafka_timestamp_type_t type;
	OutboxPartition			 *partition;

	partition = find_partition(consumer, rd_kafka_topic_name(message->rkt), message->partition);
	if (partition == NULL || !partition->active)
		return false; /* will be read again when the partition starts */
	memset(record, 0, sizeof(*record));
	record->topic = partition->topic;
	record->partition = message->partition;
	record->offset = message->offset;
	record->timestamp_ms = rd_kafka_message_timestamp(message, &type);
	record->key = message->key;
	record->key_len = message->key_len;
	record->value = message->payload;
	record->value_len = message->len;
	record->source = partition;
	partition->drained = false;
	if (!outbox_record_take_headers(message, record))
		abort(); /* without headers the event's identity would be lost */
	record->memory = message;
	outbox_record_identify(record);
	return true;
}

/* The position is not in the log, and the client reads the partition no longer. */
static void
note_lost_position(OutboxConsumer *consumer, const rd_kafka_message_t *message)
{
	OutboxPartition *partition =
		find_partition(consumer, rd_kafka_topic_name(message->rkt), message->partition);

	if (partition == NULL)
		return;
	partition->broken = true;
	if (!partition->active)
		return;
	outbox_log(OUTBOX_LOG_INFO, "position_lost", "%s [%d]: %s", partition->topic,
			   (int) partition->partition, rd_kafka_message_errstr(message));
	outbox_consumer_suspend(consumer, partition,
							outbox_clock_ms() +
								(partition->failures < 50 ?
									 BROKEN_PAUSE_MS * (int64_t) partition->failures :
									 BROKEN_PAUSE_MAX_MS));
	partition->failures++;
}

/* What comes in the place of a record. */
static void
note_event(OutboxConsumer *consumer, const rd_kafka_message_t *message)
{
	const char		*topic = message->rkt != NULL ? rd_kafka_topic_name(message->rkt) : NULL;
	OutboxPartition *partition;

	if (message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF)
	{
		partition = find_partition(consumer, topic, message->partition);
		if (partition != NULL)
		{
			partition->store_due = true;
			partition->drained = partition->active;
			partition->halted = false;
		}
	}
	else if (message->err == RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET && topic != NULL)
		note_lost_position(consumer, message);
	else
	{
		note_error(consumer, message->err, rd_kafka_message_errstr(message));
		doubt_logs(consumer, message->err, topic);
	}
}

bool
outbox_consumer_poll(OutboxConsumer *consumer, int timeout_ms, OutboxRecord *record)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, timeout_ms);

	watch_client(consumer, message != NULL);
	if (message == NULL)
		return false;
	if (message->err == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		if (fill_record(consumer, message, record))
			return true;
	}
	else
		note_event(consumer, message);
	rd_kafka_message_destroy(message);
	return false;
}

void
outbox_consumer_release(OutboxRecord *record)
{
	outbox_record_clear(record);
	rd_kafka_message_destroy(record->memory);
	record->memory = NULL;
}

OutboxPartition *
outbox_consumer_partition(OutboxConsumer *consumer, size_t index)
{
	return index < consumer->partition_count ? consumer->partitions[index] : NULL;
}

bool
outbox_consumer_assigned(const OutboxConsumer *consumer)
{
	return consumer->assigned;
}

bool
outbox_consumer_rebalancing(const OutboxConsumer *consumer)
{
	return outbox_clock_ms() < consumer->rebalancing_until;
}

bool
outbox_consumer_fatal(const OutboxConsumer *consumer)
{
	return consumer->fatal;
}

bool
outbox_consumer_committed(OutboxConsumer *consumer, OutboxPartition *const *partitions,
						  size_t count)
{
	return outbox_client_committed(consumer->rk, partitions, count, ANSWER_TIMEOUT_MS);
}

bool
outbox_consumer_retention(OutboxConsumer *consumer, const char *topic, int64_t *ms)
{
	bool keeps_all;

	return outbox_topic_retention(consumer->rk, topic, ANSWER_TIMEOUT_MS, ms, &keeps_all) ==
		OUTBOX_TOPIC_TOLD;
}

bool
outbox_consumer_start(OutboxConsumer *consumer, OutboxPartition *partition, int64_t offset)
{
	rd_kafka_topic_partition_list_t *list;

	if (partition->broken || partition->went_back ?
			!outbox_client_retake(consumer->rk, partition, offset) :
			!outbox_client_seek(consumer->rk, partition, offset))
		return false;
	list = outbox_client_list(partition, RD_KAFKA_OFFSET_INVALID);
	rd_kafka_resume_partitions(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
	partition->active = true;
	partition->store_due = partition->went_back;
	if (partition->went_back)
	{
		partition->stored = -1;
		partition->verify = true;
	}
	partition->drained = partition->broken = partition->went_back = false;
	partition->held_back = false;
	partition->seeks_refused = 0;
	partition->next = offset >= 0 ? offset : -1;
	return true;
}

void
outbox_consumer_forget(OutboxPartition *partition)
{
	partition->next = -1;
	partition->reading++;
}

void
outbox_consumer_hold_back(OutboxConsumer *consumer, OutboxPartition *partition, bool held_back)
{
	rd_kafka_topic_partition_list_t *list = outbox_client_list(partition, RD_KAFKA_OFFSET_INVALID);

	partition->held_back = held_back;
	if (held_back)
		rd_kafka_pause_partitions(consumer->rk, list);
	else
		rd_kafka_resume_partitions(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

void
outbox_consumer_wake(OutboxConsumer *consumer)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(64);
	OutboxPartition					*partition;

	for (size_t i = 0; (partition = outbox_consumer_partition(consumer, i)) != NULL; i++)
	{
		if (partition->active)
			rd_kafka_topic_partition_list_add(list, partition->topic, partition->partition);
	}
	outbox_client_wake(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

void
outbox_consumer_suspend(OutboxConsumer *consumer, OutboxPartition *partition, int64_t resume_at)
{
	rd_kafka_topic_partition_list_t *list;

	partition->resume_at = resume_at;
	partition->refused = false;
	outbox_log_check_forget(partition->question);
	partition->question = NULL;
	if (!partition->owned || !partition->active)
		return;
	partition->active = false;
	list = outbox_client_list(partition, RD_KAFKA_OFFSET_INVALID);
	rd_kafka_pause_partitions(consumer->rk, list);
	rd_kafka_topic_partition_list_destroy(list);
}

void
outbox_consumer_store(OutboxConsumer *consumer)
{
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		OutboxPartition *partition = consumer->partitions[i];

		if (!partition->active || !partition->store_due)
			continue;
		outbox_client_store(consumer->rk, partition);
		partition->store_due = false;
	}
}

/* Polls without a use for the record: the next member reads it again. */
static void
drop_message(OutboxConsumer *consumer, int timeout_ms)
{
	rd_kafka_message_t *message = rd_kafka_consumer_poll(consumer->rk, timeout_ms);

	if (message != NULL)
		rd_kafka_message_destroy(message);
}

void
outbox_consumer_await_assignment(OutboxConsumer *consumer)
{
	int64_t deadline = outbox_clock_ms() + OUTBOX_ASSIGNMENT_MAX_MS;

	while (!consumer->assigned && !consumer->fatal && outbox_clock_ms() < deadline)
		drop_message(consumer, 100);
	if (!consumer->assigned && !consumer->fatal)
		outbox_log(OUTBOX_LOG_WARNING, "left_unassigned", "no assignment came in %d s",
				   OUTBOX_ASSIGNMENT_MAX_MS / 1000);
}

/*
 * Leaves the group before the handle is closed: a close during a rebalance hangs, or the member
 * stays in the group until its session ends.  The rebalance under way is taken part in first.
 * A static member must not leave: for it only what is to be handed over is waited for.
 */
static void
leave_group(OutboxConsumer *consumer)
{
	int64_t deadline = outbox_clock_ms() + LEAVE_MAX_MS;

	if (!consumer->is_static)
		rd_kafka_unsubscribe(consumer->rk);
	do
	{
		consumer->rebalanced = false;
		drop_message(consumer, LEAVE_STEP_MS);
	} while ((consumer->rebalanced ||
			  (!consumer->is_static && outbox_client_is_member(consumer->rk))) &&
			 outbox_clock_ms() < deadline);
}

void
outbox_consumer_close(OutboxConsumer *consumer)
{
	rd_kafka_resp_err_t err;

	if (!consumer->fatal)
		leave_group(consumer);
	err = rd_kafka_consumer_close(consumer->rk);
	if (err != RD_KAFKA_RESP_ERR_NO_ERROR && err != RD_KAFKA_RESP_ERR__FATAL)
		outbox_log(OUTBOX_LOG_WARNING, "close_failed", "%s", rd_kafka_err2str(err));
	outbox_client_destroy(consumer->rk);
	for (size_t i = 0; i < consumer->partition_count; i++)
	{
		outbox_log_check_forget(consumer->partitions[i]->question);
		free(consumer->partitions[i]->suspects);
		free(consumer->partitions[i]->topic);
		free(consumer->partitions[i]);
	}
	free(consumer);
}
