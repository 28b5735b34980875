/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.c
 *	  One batch: its events, and what becomes of them; batch_end.c ends it.
 *
 * Runs in the sender, all of it in the main thread: delivery reports come
 * through rd_kafka_poll and rd_kafka_flush.
 *
 * Nothing is ever sent a second time from here (I6).  What is known to be refused is not sent, the
 * rest is, so that Kafka's own refusals come in the same answer.  When Kafka refuses a request of
 * many records for the sake of one, the next producer's requests bring half as many, until it is
 * alone in its request.
 */
#include "batch.h"

#include <stdio.h>
#include <string.h>

#include "batch_end.h"
#include "batch_state.h"
#include "cursor.h"
#include "deadlines.h"
#include "errors.h"
#include "explain.h"
#include "failure.h"
#include "judge.h"
#include "leaderless.h"
#include "process.h"
#include "record.h"
#include "refusals.h"
#include "settings.h"
#include "topic_open.h"
#include "topics.h"

#define POLL_EVERY		   512 /* events between two looks at reports */
#define QUEUE_FULL_WAIT_MS 10

/* The producer goes: nothing it still reports is of interest. */
void
outbox_batch_forget(void)
{
	outbox_batch.ignore_reports = true;
	outbox_batch.begun = false;
	outbox_batch.producer = NULL;
}

/* BATCH: nothing is sent yet.  time_ms: time stamp of its records, since 1970. */
void
outbox_batch_begin(rd_kafka_t *producer, const OutboxCursor *cursor, int64_t time_ms)
{
	uint64_t serial = outbox_batch.serial + 1;

	outbox_batch = (OutboxBatch) {.producer = producer, .serial = serial};
	outbox_batch.cursor = *cursor;
	outbox_batch.time_ms = time_ms;
	outbox_refusals_clear();
	(void) outbox_batch_take_shrunk(); /* nothing was under way */
}

/* A declared topic is made again; without it its events are refused. */
static bool
note_gone(const OutboxTopic *topic, rd_kafka_resp_err_t code)
{
	if (!topic->declared ||
		(code != RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC &&
		 code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
		return false;
	outbox_batch.gone = topic;
	return true;
}

/*
 * Notes where Kafka has put a record.  Without an offset nobody knows that it was put anywhere:
 * librdkafka (rd_kafka_dr_implicit_ack) takes a request that failed for written once a later one of
 * its partition succeeded, but a log without a record of the producer takes any sequence number as
 * its first.
 */
static void
note_written(OutboxTopic *topic, uint32_t index, int32_t partition, int64_t offset)
{
	if (offset < 0)
	{
		outbox_batch.presumed = topic;
		outbox_topic_unanswered(topic, index);
	}
	else if (!outbox_topic_note_offset(topic, partition, offset))
		outbox_batch.gone = topic;
}

static void
note_undelivered(OutboxTopic *topic, uint32_t index, int32_t partition, rd_kafka_resp_err_t code)
{
	char text[640];

	if (!outbox_error_is_refusal(code))
	{
		outbox_topic_unanswered(topic, index);
		if (code == RD_KAFKA_RESP_ERR__PURGE_QUEUE || code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
			outbox_batch.passed_over = true;
		else if (outbox_batch.failed.error == 0)
			outbox_batch.failed = (OutboxFailedDelivery) {.error = code,
														  .topic = topic,
														  .partition = partition,
														  .time_ms = outbox_batch.time_ms};
	}
	else if (note_gone(topic, code))
		return;
	else if (outbox_error_is_whole_topic(code))
		outbox_batch_note_topic(index, topic, code, rd_kafka_err2str(code));
	else
	{
		outbox_judge_explain(topic, code, text, sizeof(text));
		outbox_refusals_note_kafka(index, topic, partition, code, text);
	}
}

/* Delivery report callback of librdkafka. */
void
outbox_batch_delivered(rd_kafka_t *producer, const rd_kafka_message_t *message, void *opaque)
{
	rd_kafka_resp_err_t code = message->err;
	uint32_t			index = (uint32_t) (uintptr_t) message->_private;
	const char		   *name;

	(void) producer;
	(void) opaque;
	if (outbox_batch.ignore_reports)
		return;
	((OutboxTopic *) rd_kafka_topic_opaque(message->rkt))->under_way--;
	outbox_leaderless_progress();
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		note_written(rd_kafka_topic_opaque(message->rkt), index, message->partition,
					 message->offset);
		outbox_deadlines_acknowledged(message->len + message->key_len);
		return;
	}
	name = rd_kafka_topic_name(message->rkt);
	note_undelivered(outbox_topic_find(name, strlen(name)), index, message->partition, code);
}

/* The topic of the event; NULL: its name is none, or the topic is refused as a whole. */
static OutboxTopic *
find_topic(const OutboxWireEvent *event)
{
	static OutboxTopic *last; /* topics are never freed */
	OutboxTopic		   *topic = last;

	if (topic == NULL || topic->name_len != event->topic_len ||
		memcmp(topic->name, event->topic, event->topic_len) != 0)
	{
		if (event->topic_len == 0 || event->topic_len >= OUTBOX_TOPIC_NAME_SIZE ||
			memchr(event->topic, '\0', event->topic_len) != NULL)
		{
			outbox_refusals_note_topic(outbox_batch.events, NULL, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
									   "the topic's name is not valid");
			return NULL;
		}
		topic = outbox_topic_find(event->topic, event->topic_len);
		last = topic;
	}
	if (topic->seen_in_batch != outbox_batch.serial)
	{
		topic->seen_in_batch = outbox_batch.serial;
		topic->unanswered_from = UINT32_MAX;
		topic->refused = false;
		topic->withheld = false;
		topic->under_way = 0;
	}
	if (topic->flaw[0] != '\0')
		outbox_refusals_note_topic(outbox_batch.events, topic, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
								   topic->flaw);
	return topic->refused ? NULL : topic;
}

/* Gives the topic a handle unless it is refused as a whole.  False: a failure. */
static bool
open_topic(OutboxTopic *topic, OutboxFailure *failure)
{
	const rd_kafka_resp_err_t unknown = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;

	if (topic->handle == NULL)
	{
		if (!outbox_topic_open(outbox_batch.producer, topic, failure))
			return false;
		if (topic->handle == NULL)
			outbox_refusals_note_topic(outbox_batch.events, topic, topic->create_error,
									   topic->create_text);
		else if (topic->absent && !topic->declared)
			outbox_refusals_note_topic(outbox_batch.events, topic, unknown,
									   rd_kafka_err2str(unknown));
	}
	if (!topic->refused && topic->used_in_batch != outbox_batch.serial)
	{
		topic->used_in_batch = outbox_batch.serial;
		topic->first_event = outbox_batch.events;
		outbox_leaderless_use(topic);
	}
	return true;
}

/* librdkafka does not take the event; message.max.bytes is all that it knows of sizes. */
static void
note_ours(OutboxTopic *topic, const OutboxWireEvent *event, const rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	char				text[256];

	snprintf(text, sizeof(text), "%s", rd_kafka_error_string(error));
	if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		outbox_explain_size(outbox_batch.producer, (size_t) event->key_len + event->payload_len,
							text, sizeof(text));
	outbox_refusals_note_ours(outbox_batch.events, topic, event, code, text);
}

/* Hands the event over; waits while librdkafka's queue is full. */
static void
produce_event(const OutboxSettings *settings, OutboxTopic *topic, const OutboxWireEvent *event)
{
	rd_kafka_t		 *producer = outbox_batch.producer;
	rd_kafka_error_t *error;

	while ((error = outbox_record_produce(producer, topic, event, outbox_batch.events,
										  outbox_batch.time_ms, settings)) != NULL)
	{
		rd_kafka_resp_err_t code = rd_kafka_error_code(error);

		if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		{
			rd_kafka_error_destroy(error);
			rd_kafka_poll(producer, QUEUE_FULL_WAIT_MS);
			if (outbox_leaderless_watch())
				return;
			continue;
		}
		if (!outbox_error_is_refusal(code))
		{
			outbox_batch.broken = true; /* why is told by the end of the transaction */
			outbox_topic_unanswered(topic, outbox_batch.events);
		}
		else if (note_gone(topic, code))
			;
		else if (outbox_error_is_whole_topic(code))
			outbox_batch_note_topic(outbox_batch.events, topic, code, rd_kafka_error_string(error));
		else
			note_ours(topic, event, error);
		rd_kafka_error_destroy(error);
		return;
	}
	topic->under_way++;
}

/* The frame stands for an event that does not fit into one. */
static rd_kafka_resp_err_t
name_flaw(const OutboxWireEvent *event, char *text, size_t size)
{
	switch ((OutboxEventFlaw) event->flaw)
	{
		case OUTBOX_EVENT_SOUND:
			return RD_KAFKA_RESP_ERR_NO_ERROR;
		case OUTBOX_EVENT_TOO_LARGE:
			snprintf(text, size, "the event is larger than the relay can send");
			return RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
		case OUTBOX_EVENT_LONG_TEXT:
			snprintf(text, size,
					 "topic, type or content type of the event are longer than the relay can send");
			return RD_KAFKA_RESP_ERR_INVALID_RECORD;
		case OUTBOX_EVENT_NO_TIME:
			snprintf(text, size, "the event's created_at is no time");
			return RD_KAFKA_RESP_ERR_INVALID_RECORD;
		case OUTBOX_EVENT_NO_TEXT:
			snprintf(text, size, "type or content type of the event cannot become UTF-8");
			return RD_KAFKA_RESP_ERR_INVALID_RECORD;
	}
	snprintf(text, size, "the event has a flaw");
	return RD_KAFKA_RESP_ERR_INVALID_RECORD;
}

/*
 * Refused by us, or on its way to Kafka; or left for the batch's return, once the batch will not be
 * committed anyway: what waits behind a refused one of its key, all after a refusal by Kafka, and a
 * topic that is not open once Kafka or a whole topic has refused, for to find a topic absent takes
 * its time.
 */
static bool
take_event(const OutboxSettings *settings, const OutboxWireEvent *event, OutboxFailure *failure)
{
	OutboxTopic		   *topic = find_topic(event);
	rd_kafka_resp_err_t code;
	char				text[640];

	if (topic == NULL)
		return true;
	if (topic->handle == NULL && outbox_refusals_any() && !outbox_refusals_only_ours())
	{
		outbox_topic_unanswered(topic, outbox_batch.events);
		return true;
	}
	if (!open_topic(topic, failure))
		return false;
	if (topic->refused)
		return true;
	code = name_flaw(event, text, sizeof(text));
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		code = outbox_judge_event(outbox_batch.producer, topic, event, settings,
								  outbox_batch.started_us, text, sizeof(text));
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		outbox_refusals_note_ours(outbox_batch.events, topic, event, code, text);
	else if (outbox_refusals_hold(topic, event))
		;
	else if (outbox_refusals_by_kafka() || outbox_batch.broken || topic->withheld)
		outbox_topic_unanswered(topic, outbox_batch.events);
	else
		produce_event(settings, topic, event);
	return true;
}

/*
 * One event of the batch.  False only for what ends the batch at once, where it is given up without
 * *failure; an event that Kafka refuses is told by outbox_batch_end.
 */
bool
outbox_batch_event(const OutboxSettings *settings, const OutboxWireEvent *event,
				   OutboxFailure *failure)
{
	if (!outbox_batch.begun && !outbox_batch_open(settings, failure))
		return false;
	if (outbox_batch.gone == NULL && !take_event(settings, event, failure))
		return false;
	if (outbox_leaderless_given_up())
		return false;
	outbox_batch.bytes += event->key_len + event->payload_len;
	outbox_batch.events++;
	OUTBOX_FAULT("sender-produced");
	if (outbox_batch.events % POLL_EVERY == 0)
		rd_kafka_poll(outbox_batch.producer, 0);
	return true;
}
