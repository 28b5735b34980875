/* SPDX-License-Identifier: PostgreSQL
 *
 * batch.c
 *	  One batch: a Kafka transaction with its events and, last, the cursor (I4).
 *
 * Runs in the sender, all of it in the main thread: delivery reports come
 * through rd_kafka_poll and rd_kafka_flush.
 *
 * Nothing is ever sent a second time from here (I6).  What is known to be refused is not sent, the rest is, so
 * that Kafka's own refusals come in the same answer.  When Kafka refuses a request of many records for the sake of
 * one, the next producer's requests bring half as many, until it is alone in its request.
 */
#include "sender.h"

#include <stdio.h>
#include <string.h>

#define POLL_EVERY				512 /* events between two looks at reports */
#define REFUSED_WAIT_US		1000000	/* for reports, once an event is refused */
#define PREVIOUS_WAIT_US	10000000	/* and for another of them, when librdkafka refused it */
#define GONE_LOOK_US		1500000	/* unreported events: is their topic still there? */
#define QUEUE_FULL_WAIT_MS		10
#define CURSOR_BEHIND_US		1000000 /* at_least_once: then batches wait for it */
#define CURSOR_DRAIN_TIMEOUT_MS	10000

/* The batch under way; since outbox_batch_begin unless it says otherwise. */
typedef struct Batch
{
	uint64_t	serial;			/* counts batches of this process */
	OutboxCursor cursor;
	int64_t		time_ms;		/* time stamp of its records */
	bool		begun;			/* the transaction is open */
	bool		ignore_reports; /* it is being given up */
	bool		broken;			/* librdkafka takes no more events */
	uint32_t	events;			/* EVENT frames seen */
	uint64_t	bytes;
	int64_t		started_us;
	bool		passed_over;	/* an event was dropped without a report */
	bool		denied;			/* a topic was, as a whole */
	bool		stalled;		/* Kafka, which has refused nothing, did not answer for events for long */
	OutboxFailedDelivery failed;	/* the first that is no refusal */
	const OutboxTopic *gone;	/* deleted, or made anew, since this producer knows it */
	const OutboxTopic *presumed;	/* librdkafka presumes that a record of it was written */
} Batch;

static Batch batch;

/* The producer goes: nothing it still reports is of interest. */
void
outbox_batch_forget(void)
{
	batch.ignore_reports = true;
	batch.begun = false;
}

static bool
is_in_batch(const OutboxTopic *topic)
{
	return topic->used_in_batch == batch.serial;
}

void
outbox_batch_begin(const OutboxCursor *cursor, int64_t time_ms)
{
	uint64_t	serial = batch.serial + 1;

	batch = (Batch) {.serial = serial};
	batch.cursor = *cursor;
	batch.time_ms = time_ms;
	outbox_refusals_clear();
	(void) outbox_take_shrunk_topic(is_in_batch);	/* nothing was under way */
}

/* A declared topic is made again; without it its events are refused. */
static bool
note_gone(const OutboxTopic *topic, rd_kafka_resp_err_t code)
{
	if (!topic->declared ||
		(code != RD_KAFKA_RESP_ERR__UNKNOWN_TOPIC && code != RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART))
		return false;
	batch.gone = topic;
	return true;
}

/*
 * Notes where Kafka has put a record.  Without an offset nobody knows that it was put anywhere:
 * librdkafka (rd_kafka_dr_implicit_ack) takes a request that failed for written once a later one of its
 * partition succeeded, but a log without a record of the producer takes any sequence number as its first.
 */
static void
note_written(OutboxTopic *topic, uint32_t index, int32_t partition, int64_t offset)
{
	if (offset < 0)
	{
		batch.presumed = topic;
		outbox_topic_unanswered(topic, index);
	}
	else if (!outbox_topic_note_offset(topic, partition, offset))
		batch.gone = topic;
}

/* Every event of the topic is refused, by Kafka or by librdkafka. */
static void
note_topic(uint32_t index, OutboxTopic *topic, rd_kafka_resp_err_t code, const char *text)
{
	batch.denied |= code == RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
	outbox_refusals_note_topic(index, topic, code, text);
}

static void
note_undelivered(OutboxTopic *topic, uint32_t index, int32_t partition, rd_kafka_resp_err_t code)
{
	char		text[640];

	if (!outbox_error_is_refusal(code))
	{
		outbox_topic_unanswered(topic, index);
		if (code == RD_KAFKA_RESP_ERR__PURGE_QUEUE || code == RD_KAFKA_RESP_ERR__PURGE_INFLIGHT)
			batch.passed_over = true;
		else if (batch.failed.error == 0)
			batch.failed = (OutboxFailedDelivery) {.error = code, .topic = topic,
				.partition = partition, .time_ms = batch.time_ms};
	}
	else if (note_gone(topic, code))
		return;
	else if (outbox_error_is_whole_topic(code))
		note_topic(index, topic, code, rd_kafka_err2str(code));
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
	uint32_t	index = (uint32_t) (uintptr_t) message->_private;
	const char *name;

	(void) producer;
	(void) opaque;
	if (batch.ignore_reports)
		return;
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		note_written(rd_kafka_topic_opaque(message->rkt), index, message->partition, message->offset);
		outbox_deadlines_acknowledged(message->len + message->key_len);
		return;
	}
	name = rd_kafka_topic_name(message->rkt);
	note_undelivered(outbox_topic_find(name, strlen(name)), index, message->partition, code);
}

static bool
begin_transaction(OutboxFailure *failure)
{
	rd_kafka_error_t *error;

	outbox_watch_begin();
	error = rd_kafka_begin_transaction(outbox_producer_client());
	if (error == NULL)
		return true;
	outbox_failure_from_error(failure, error, "beginning a transaction");
	return false;
}

/* The cursor, last of all, then the commit (I4). */
static bool
commit_transaction(const OutboxSettings *settings, OutboxFailure *failure)
{
	rd_kafka_t *producer = outbox_producer_client();
	rd_kafka_consumer_group_metadata_t *group;
	rd_kafka_topic_partition_list_t *offsets;
	rd_kafka_error_t *error;

	group = rd_kafka_consumer_group_metadata_new(settings->group);
	offsets = outbox_cursor_offsets(settings, &batch.cursor);
	error = rd_kafka_send_offsets_to_transaction(producer, offsets, group, -1);
	rd_kafka_topic_partition_list_destroy(offsets);
	rd_kafka_consumer_group_metadata_destroy(group);
	if (error != NULL)
	{
		outbox_failure_from_error(failure, error, "adding the cursor to a transaction");
		if (failure->kafka_error == RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE)
			outbox_failure_precede(failure, "the cursor's metadata has %zu bytes, more than offset.metadata.max.bytes of "
								   "the brokers", batch.cursor.metadata_len);
		return false;
	}
	OUTBOX_FAULT("sender-offsets-sent");
	if (batch.broken)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "sending events",
						   "the producer took no more events");
		return false;
	}
	error = rd_kafka_commit_transaction(producer, -1);
	if (error == NULL)
		return true;
	outbox_failure_from_error(failure, error, "committing a transaction");
	/* it may have been committed: only a fence and a look can tell */
	if (failure->class == OUTBOX_ERROR_RETRIABLE)
		failure->class = OUTBOX_ERROR_FATAL;
	return false;
}

static bool
open_transaction(const OutboxSettings *settings, OutboxFailure *failure)
{
	batch.begun = true;
	batch.started_us = outbox_clock_us();
	outbox_deadlines_begun();
	if (!settings->exactly_once)
		return true;
	OUTBOX_MUTATE("cursor_first", if (!begin_transaction(failure) || !commit_transaction(settings, failure))
				  return false);
	if (!begin_transaction(failure))
		return false;
	OUTBOX_FAULT("sender-begun");
	return true;
}

/* The topic of the event; NULL: its name is none, or the topic is refused as a whole. */
static OutboxTopic *
find_topic(const OutboxWireEvent *event)
{
	static OutboxTopic *last;	/* topics are never freed */
	OutboxTopic *topic = last;

	if (topic == NULL || topic->name_len != event->topic_len ||
		memcmp(topic->name, event->topic, event->topic_len) != 0)
	{
		if (event->topic_len == 0 || event->topic_len >= OUTBOX_TOPIC_NAME_SIZE ||
			memchr(event->topic, '\0', event->topic_len) != NULL)
		{
			outbox_refusals_note_topic(batch.events, NULL, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION,
									   "the topic's name is not valid");
			return NULL;
		}
		topic = outbox_topic_find(event->topic, event->topic_len);
		last = topic;
	}
	if (topic->seen_in_batch != batch.serial)
	{
		topic->seen_in_batch = batch.serial;
		topic->unanswered_from = UINT32_MAX;
		topic->refused = false;
	}
	if (topic->flaw[0] != '\0')
		outbox_refusals_note_topic(batch.events, topic, RD_KAFKA_RESP_ERR_TOPIC_EXCEPTION, topic->flaw);
	return topic->refused ? NULL : topic;
}

/* Gives the topic a handle unless it is refused as a whole.  False: a failure. */
static bool
open_topic(OutboxTopic *topic, OutboxFailure *failure)
{
	const rd_kafka_resp_err_t unknown = RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;

	if (topic->handle == NULL)
	{
		if (!outbox_topic_open(outbox_producer_client(), topic, failure))
			return false;
		if (topic->handle == NULL)
			outbox_refusals_note_topic(batch.events, topic, topic->create_error, topic->create_text);
		else if (topic->absent && !topic->declared)
			outbox_refusals_note_topic(batch.events, topic, unknown, rd_kafka_err2str(unknown));
	}
	if (!topic->refused && topic->used_in_batch != batch.serial)
	{
		topic->used_in_batch = batch.serial;
		topic->first_event = batch.events;
	}
	return true;
}

/* librdkafka does not take the event; message.max.bytes is all that it knows of sizes. */
static void
note_ours(OutboxTopic *topic, const OutboxWireEvent *event, const rd_kafka_error_t *error)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	char		text[256];

	snprintf(text, sizeof(text), "%s", rd_kafka_error_string(error));
	if (code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE)
		outbox_explain_size(outbox_producer_client(), (size_t) event->key_len + event->payload_len, text, sizeof(text));
	outbox_refusals_note_ours(batch.events, topic, event, code, text);
}

/* Hands the event over; waits while librdkafka's queue is full. */
static void
produce_event(const OutboxSettings *settings, OutboxTopic *topic, const OutboxWireEvent *event)
{
	rd_kafka_t *producer = outbox_producer_client();
	rd_kafka_error_t *error;

	while ((error = outbox_record_produce(producer, topic, event, batch.events, batch.time_ms, settings)) != NULL)
	{
		rd_kafka_resp_err_t code = rd_kafka_error_code(error);

		if (code == RD_KAFKA_RESP_ERR__QUEUE_FULL)
		{
			rd_kafka_error_destroy(error);
			rd_kafka_poll(producer, QUEUE_FULL_WAIT_MS);
			continue;
		}
		if (!outbox_error_is_refusal(code))
		{
			batch.broken = true;	/* why is told by the end of the transaction */
			outbox_topic_unanswered(topic, batch.events);
		}
		else if (note_gone(topic, code))
			;
		else if (outbox_error_is_whole_topic(code))
			note_topic(batch.events, topic, code, rd_kafka_error_string(error));
		else
			note_ours(topic, event, error);
		rd_kafka_error_destroy(error);
		return;
	}
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
			snprintf(text, size, "topic, type or content type of the event are longer than the relay can send");
			return RD_KAFKA_RESP_ERR_INVALID_RECORD;
		case OUTBOX_EVENT_NO_TIME:
			snprintf(text, size, "the event's created_at is no time");
			return RD_KAFKA_RESP_ERR_INVALID_RECORD;
	}
	snprintf(text, size, "the event has a flaw");
	return RD_KAFKA_RESP_ERR_INVALID_RECORD;
}

/*
 * Refused by us, or on its way to Kafka; or left for the batch's return, once the batch will not be committed
 * anyway: what waits behind a refused one of its key, all after a refusal by Kafka, and a topic that is not open
 * once Kafka or a whole topic has refused, for to find a topic absent takes its time.
 */
static bool
take_event(const OutboxSettings *settings, const OutboxWireEvent *event, OutboxFailure *failure)
{
	OutboxTopic *topic = find_topic(event);
	rd_kafka_resp_err_t code;
	char		text[640];

	if (topic == NULL)
		return true;
	if (topic->handle == NULL && outbox_refusals_any() && !outbox_refusals_only_ours())
	{
		outbox_topic_unanswered(topic, batch.events);
		return true;
	}
	if (!open_topic(topic, failure))
		return false;
	if (topic->refused)
		return true;
	code = name_flaw(event, text, sizeof(text));
	if (code == RD_KAFKA_RESP_ERR_NO_ERROR)
		code = outbox_judge_event(outbox_producer_client(), topic, event, settings, batch.started_us,
								  text, sizeof(text));
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
		outbox_refusals_note_ours(batch.events, topic, event, code, text);
	else if (outbox_refusals_hold(topic, event))
		;
	else if (outbox_refusals_by_kafka() || batch.broken)
		outbox_topic_unanswered(topic, batch.events);
	else
		produce_event(settings, topic, event);
	return true;
}

/*
 * One event of the batch.  False only for what ends the batch at once; an event
 * that Kafka refuses is told by outbox_batch_end.
 */
bool
outbox_batch_event(const OutboxSettings *settings, const OutboxWireEvent *event,
				   OutboxFailure *failure)
{
	if (!batch.begun && !open_transaction(settings, failure))
		return false;
	if (batch.gone == NULL && !take_event(settings, event, failure))
		return false;
	batch.bytes += event->key_len + event->payload_len;
	batch.events++;
	OUTBOX_FAULT("sender-produced");
	if (batch.events % POLL_EVERY == 0)
		rd_kafka_poll(outbox_producer_client(), 0);
	return true;
}

/* A topic of the batch that is no longer there: librdkafka itself would be slower to say so. */
static void
look_for_gone(rd_kafka_t *producer)
{
	batch.gone = outbox_topics_find_gone(producer, batch.serial);
}

/* Is the batch lost, whatever is still reported?  None of these errors is a refusal's consequence. */
static bool
is_in_vain(void)
{
	return batch.failed.error == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP ||
		batch.failed.error == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT;
}

/* Is the transaction whole, though it will be aborted for what we refuse? */
static bool
is_sending_on(void)
{
	return outbox_refusals_by_us() && !outbox_refusals_by_kafka() && batch.failed.error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/* How long Kafka may be silent about what precedes an event that we refuse: as long as a request may take. */
static int64_t
longest_silence_us(void)
{
	const OutboxDeadlines *grown = outbox_deadlines_grown();

	return grown != NULL && grown->socket_ms * 1000 > PREVIOUS_WAIT_US ? grown->socket_ms * 1000 : PREVIOUS_WAIT_US;
}

/*
 * Waits for the report of every event; short flushes, because each one wakes
 * the broker threads.  It ends, since every message times out; events of a topic
 * that was deleted are not waited for so long, others share their transaction.
 * librdkafka (2.0.2 at least) never reports a message that comes back for a
 * partition it has given up, also if the topic was made anew meanwhile.  A refused batch
 * waits too: an abort sent while partitions are still being added is answered
 * CONCURRENT_TRANSACTIONS and repeated.  What is dropped after an event that librdkafka refused
 * early may hold one that Kafka refuses and that precedes it in its key, so that is waited for longer.
 */
static void
await_reports(void)
{
	rd_kafka_t *producer = outbox_producer_client();
	int64_t		refused_us = 0;
	int64_t		looked_us = outbox_clock_us();
	int			waiting = 0;

	while (batch.gone == NULL && rd_kafka_flush(producer, 1) == RD_KAFKA_RESP_ERR__TIMED_OUT)
	{
		if (batch.gone == NULL)
			batch.gone = outbox_take_shrunk_topic(is_in_batch);
		if (batch.gone != NULL || (!outbox_refusals_any() && is_in_vain()))
			break;
		if (!outbox_refusals_any() && outbox_clock_us() - looked_us > GONE_LOOK_US)
		{
			look_for_gone(producer);
			looked_us = outbox_clock_us();
		}
		if (!outbox_refusals_any())
			continue;
		if (refused_us == 0 || (is_sending_on() && rd_kafka_outq_len(producer) != waiting))
			refused_us = outbox_clock_us();
		else if (outbox_clock_us() - refused_us > (is_sending_on() ? longest_silence_us() : REFUSED_WAIT_US))
		{
			/* librdkafka sends no more in a failed transaction: drop what waits */
			batch.stalled |= is_sending_on();
			(void) rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE);
			refused_us = outbox_clock_us();
		}
		waiting = rd_kafka_outq_len(producer);
	}
}

/* A producer that starts anew sees that the topic is made again, or knows the new one, or refuses its events. */
static bool
fail_gone(OutboxFailure *failure)
{
	outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
					   "sending events", "topic \"%s\" was deleted or made anew", batch.gone->name);
	return false;
}

/* The next producer sends all of it again, and Kafka tells apart what it has from this one (I6). */
static bool
fail_presumed(OutboxFailure *failure)
{
	outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE, 0, "sending events",
					   "Kafka has not told that it took every record for topic \"%s\"", batch.presumed->name);
	return false;
}

/*
 * Aborts the refused transaction.  When the denied topic was all that it held,
 * Kafka knows of no transaction and librdkafka gives the producer up: nothing is
 * left to abort, and the next batch begins with a fence.
 */
static bool
abort_transaction(OutboxFailure *failure)
{
	rd_kafka_error_t *error;

	batch.ignore_reports = true;
	error = rd_kafka_abort_transaction(outbox_producer_client(), -1);
	if (error == NULL)
	{
		await_reports();
		return batch.gone == NULL || fail_gone(failure);
	}
	if (batch.denied && rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_INVALID_TXN_STATE)
	{
		rd_kafka_error_destroy(error);
		return true;
	}
	outbox_failure_from_error(failure, error, "aborting a transaction");
	return false;
}

/* A transaction that failed with that error because a topic is denied blames its first event. */
static bool
blame_denied_topic(int error, const char *text)
{
	char		name[OUTBOX_TOPIC_NAME_SIZE];
	OutboxTopic *topic;

	if (!outbox_take_denied_topic(name, sizeof(name)) || error != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
		return false;
	topic = outbox_topic_find(name, strlen(name));
	if (topic->used_in_batch != batch.serial)
		return false;
	note_topic(topic->first_event, topic, (rd_kafka_resp_err_t) error, text);
	return true;
}

static void
tell_refusals(const OutboxSuspects *suspects, size_t told, OutboxBatchResult *result)
{
	uint32_t	first = 0;
	const char *text = outbox_refusals_first(&first);

	result->refused = true;
	result->fence = suspects->count > 0;
	result->told = (uint32_t) told;
	result->suspects = suspects->count;
	result->per_request = outbox_halving_per_request();
	snprintf(result->refused_text, sizeof(result->refused_text), "%s",
			 text != NULL ? text : outbox_refusals_any_text());
}

/* Aborts and tells which events are to blame. */
static bool
abort_refused(const OutboxSettings *settings, OutboxBatchResult *result, OutboxFailure *failure)
{
	const rd_kafka_resp_err_t denied = RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
	OutboxSuspects suspects;
	size_t		told;

	if (batch.passed_over)
		(void) blame_denied_topic(denied, rd_kafka_err2str(denied));
	told = outbox_refusals_sift(outbox_halving_per_request() == 1, &suspects);
	if (told == 0 && suspects.count == 0 && batch.failed.error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_explain_delivery(outbox_producer_client(), &batch.failed, failure);
		return false;
	}
	if (told == 0 && suspects.count == 0)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_ABORTABLE, 0, "sending events",
						   "%s: but Kafka has not answered for events ahead of it", outbox_refusals_any_text());
		return false;
	}
	if (suspects.count > 0)
		outbox_halving_suspect(outbox_producer_client(), &suspects);
	else if (outbox_refusals_by_kafka())
		outbox_halving_found();
	if (settings->exactly_once)
	{
		if (!abort_transaction(failure))
			return false;
		OUTBOX_FAULT("sender-aborted");
		if (outbox_watch_is_suspect())
		{
			outbox_failure_set(failure, OUTBOX_ERROR_ABORTABLE, 0, "aborting a transaction",
							   "the abort may still be under way twice");
			return false;
		}
	}
	if (outbox_refusals_have_topic())
		outbox_topics_close();	/* so that the topic is looked up again */
	tell_refusals(&suspects, told, result);
	return true;
}

static bool
end_exactly_once(const OutboxSettings *settings, OutboxBatchResult *result,
				 OutboxFailure *failure)
{
	await_reports();
	if (batch.gone == NULL && !outbox_refusals_any() && batch.failed.error == 0 &&
		!outbox_topics_find_changed(outbox_producer_client(), &batch.gone, failure))
		return false;
	if (batch.gone != NULL)
		return fail_gone(failure);
	if (batch.presumed != NULL && !outbox_refusals_any())
		return fail_presumed(failure);
	OUTBOX_FAULT("sender-flushed");
	if (!outbox_refusals_any() && batch.failed.error == 0)
	{
		if (commit_transaction(settings, failure))
		{
			OUTBOX_FAULT("sender-committed");
			result->suspect = outbox_watch_is_suspect();
			return true;
		}
		if (!blame_denied_topic(failure->kafka_error, failure->text))
			return false;
	}
	if (outbox_refusals_any())
		return abort_refused(settings, result, failure);
	outbox_explain_delivery(outbox_producer_client(), &batch.failed, failure);
	return false;
}

/*
 * All events acknowledged; the cursor follows behind, one commit at a time, each
 * of the newest batch: Kafka lets every such commit wait 5 ms
 * (group.coordinator.append.linger.ms).  After a crash it may be several
 * batches behind, by about a second at most.
 */
static bool
end_at_least_once(const OutboxSettings *settings, OutboxBatchResult *result,
				  OutboxFailure *failure)
{
	await_reports();
	if (batch.gone == NULL && !outbox_refusals_any() && batch.failed.error == 0 &&
		!outbox_topics_find_changed(outbox_producer_client(), &batch.gone, failure))
		return false;
	if (batch.gone != NULL)
		return fail_gone(failure);
	if (batch.presumed != NULL && !outbox_refusals_any())
		return fail_presumed(failure);
	if (outbox_refusals_any())
		return abort_refused(settings, result, failure);
	if (batch.failed.error == 0 && batch.broken)
		batch.failed.error = RD_KAFKA_RESP_ERR__FATAL;
	if (batch.failed.error != 0)
	{
		outbox_explain_delivery(outbox_producer_client(), &batch.failed, failure);
		return false;
	}
	outbox_cursor_serve(settings);
	if (outbox_cursor_behind_us() > CURSOR_BEHIND_US &&
		!outbox_cursor_drain(settings, CURSOR_DRAIN_TIMEOUT_MS))
	{
		outbox_failure_from_code(failure, RD_KAFKA_RESP_ERR__TIMED_OUT, "storing the cursor",
								 "the cursors of earlier batches could not be stored");
		return false;
	}
	outbox_cursor_store(&batch.cursor);
	outbox_cursor_serve(settings);
	return true;
}

/* Ends the batch: true with *result (committed or refused), or false. */
bool
outbox_batch_end(const OutboxSettings *settings, uint32_t events, OutboxBatchResult *result,
				 OutboxFailure *failure)
{
	bool		ok;

	memset(result, 0, sizeof(*result));
	if (!batch.begun && !open_transaction(settings, failure))
		return false;
	if (events != batch.events)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "ending a batch",
						   "END speaks of %u events, %u were read", events, batch.events);
		return false;
	}
	ok = settings->exactly_once ? end_exactly_once(settings, result, failure) :
		end_at_least_once(settings, result, failure);
	if (!ok)
		outbox_deadlines_failed(settings, batch.bytes, batch.stalled, !batch.failed.leaderless, failure);
	if (!ok || result->refused)
		return ok;
	/* the relay fences, and with that gets an ordinary producer again */
	result->suspect |= outbox_halving_grow() | outbox_deadlines_committed();
	result->batch_no = (uint64_t) batch.cursor.batch_no;
	result->events = batch.events;
	result->bytes = batch.bytes;
	result->duration_us = (uint64_t) (outbox_clock_us() - batch.started_us);
	return true;
}
