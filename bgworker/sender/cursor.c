/* SPDX-License-Identifier: PostgreSQL
 *
 * cursor.c
 *	  The relay's cursor in Kafka: the offset that a consumer group has
 *	  committed on partition 0 of the cursor topic is a batch number (I4).
 *
 * Runs in the sender.  In exactly_once the offset is part of the transaction (batch_end.c); here it
 * is read, and in at_least_once committed.  Both go through consumer handles that never join the
 * group: the admin calls of librdkafka 2.0.2 crash a producer handle when the group's coordinator
 * moves.
 */
#include "cursor.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "conf.h"
#include "errors.h"
#include "explain.h"
#include "failure.h"
#include "notes.h"
#include "process.h"
#include "settings.h"
#include "topic_create.h"

#define STABLE_DEADLINE_US	 60000000 /* a dead predecessor's transaction times out */
#define LOOK_DEADLINE_US	 15000000
#define LOOK_DOWN_US		 7000000 /* the same when no broker can be reached */
#define ASK_TIMEOUT_MS		 3500
#define FIRST_ASK_TIMEOUT_MS 1000 /* so that a refused connection is told soon */
#define COMMIT_RETRY_US		 1000000

/* The committer of at_least_once; made with the first commit. */
static rd_kafka_t		*committer;
static rd_kafka_queue_t *commit_queue;
static int				 wakeup_fds[2] = {-1, -1};
static OutboxCursor		 waiting;	/* newest cursor not handed to Kafka */
static OutboxCursor		 under_way; /* asked for, not answered */
static bool				 has_waiting;
static bool				 has_under_way;
static int64_t			 retry_at;
static int64_t			 behind_since;	/* when the oldest cursor not yet stored was given */
static int64_t			 waiting_since; /* the same of what is not yet handed to Kafka */

/* A list of the one partition, with offset and metadata if cursor is given. */
rd_kafka_topic_partition_list_t *
outbox_cursor_offsets(const OutboxSettings *settings, const OutboxCursor *cursor)
{
	rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
	rd_kafka_topic_partition_t		*part;

	part = rd_kafka_topic_partition_list_add(list, settings->cursor_topic, 0);
	if (cursor == NULL)
		return list;
	part->offset = cursor->batch_no;
	if (cursor->metadata_len > 0)
	{
		part->metadata = malloc(cursor->metadata_len);
		if (part->metadata != NULL)
		{
			memcpy(part->metadata, cursor->metadata, cursor->metadata_len);
			part->metadata_size = cursor->metadata_len;
		}
	}
	return list;
}

static rd_kafka_t *
open_consumer(const OutboxSettings *settings, bool stable, OutboxFailure *failure)
{
	rd_kafka_conf_t *conf = outbox_cursor_conf(settings, stable, failure);
	rd_kafka_t		*consumer;
	char			 error[512];

	if (conf == NULL)
		return NULL;
	consumer = rd_kafka_new(RD_KAFKA_CONSUMER, conf, error, sizeof(error));
	if (consumer == NULL)
	{
		rd_kafka_conf_destroy(conf);
		outbox_explain_without_values(settings, error);
		outbox_failure_set(failure, OUTBOX_ERROR_CONFIG, RD_KAFKA_RESP_ERR__INVALID_ARG,
						   "configuring Kafka", "%s", error);
	}
	return consumer;
}

static void
close_consumer(rd_kafka_t *consumer)
{
	rd_kafka_destroy_flags(consumer, RD_KAFKA_DESTROY_F_NO_CONSUMER_CLOSE);
}

/* Errors that the consumer's own queue holds, such as a group we may not use. */
static rd_kafka_resp_err_t
take_consumer_error(rd_kafka_t *consumer)
{
	rd_kafka_message_t *message;
	rd_kafka_resp_err_t code = RD_KAFKA_RESP_ERR_NO_ERROR;

	rd_kafka_poll(consumer, 0);
	message = rd_kafka_consumer_poll(consumer, 0);
	if (message != NULL)
	{
		code = message->err;
		rd_kafka_message_destroy(message);
	}
	return code;
}

/* Copies Kafka's answer; false if the offset is none the relay can have written. */
static bool
take_answer(const rd_kafka_topic_partition_t *part, OutboxCursor *cursor, OutboxFailure *failure)
{
	cursor->present = part->offset >= 0;
	cursor->batch_no = cursor->present ? part->offset : 0;
	cursor->metadata_len = cursor->present ? part->metadata_size : 0;
	if (part->offset < 0 && part->offset != RD_KAFKA_OFFSET_INVALID)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "reading the cursor",
						   "Kafka returned offset %" PRId64, part->offset);
		return false;
	}
	if (cursor->metadata_len >= sizeof(cursor->metadata))
	{
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "reading the cursor",
						   "its metadata has %zu bytes", cursor->metadata_len);
		return false;
	}
	if (cursor->metadata_len > 0)
		memcpy(cursor->metadata, part->metadata, cursor->metadata_len);
	cursor->metadata[cursor->metadata_len] = '\0';
	return true;
}

/*
 * Asks once.  True: *code is 0 and *cursor is set, or *code says why it has to
 * be asked again.  False: *failure.
 */
static bool
ask_cursor(rd_kafka_t *consumer, const OutboxSettings *settings, int timeout_ms,
		   OutboxCursor *cursor, rd_kafka_resp_err_t *code, OutboxFailure *failure)
{
	rd_kafka_topic_partition_list_t *list = outbox_cursor_offsets(settings, NULL);
	bool							 ok = true;

	*code = rd_kafka_committed(consumer, list, timeout_ms);
	if (*code == RD_KAFKA_RESP_ERR_NO_ERROR)
		*code = list->elems[0].err;
	if (*code == RD_KAFKA_RESP_ERR_NO_ERROR)
		ok = take_answer(&list->elems[0], cursor, failure);
	else
	{
		rd_kafka_resp_err_t told = take_consumer_error(consumer);

		if (outbox_error_classify(told) == OUTBOX_ERROR_AUTH)
			*code = told;
		ok = outbox_error_classify(*code) == OUTBOX_ERROR_RETRIABLE &&
			outbox_client_error_class() == OUTBOX_ERROR_RETRIABLE;
		if (!ok)
			outbox_failure_from_code(failure, *code, "reading the cursor", NULL);
		if (!ok && outbox_error_classify(*code) == OUTBOX_ERROR_AUTH)
			outbox_failure_append(failure, " (group \"%s\", topic \"%s\")", settings->group,
								  settings->cursor_topic);
	}
	rd_kafka_topic_partition_list_destroy(list);
	return ok;
}

/* How long the cursor is asked for. */
static int64_t
read_limit_us(bool stable)
{
	if (stable)
		return STABLE_DEADLINE_US;
	return outbox_is_unreachable() ? LOOK_DOWN_US : LOOK_DEADLINE_US;
}

/*
 * Reads the cursor.  stable: as of read_committed, asked again while a
 * transaction holds it open; else what is there now, which may be stale, and
 * declared topics are created.
 */
bool
outbox_cursor_read(const OutboxSettings *settings, bool stable, OutboxCursor *cursor,
				   OutboxFailure *failure)
{
	int64_t				started = outbox_clock_us();
	rd_kafka_t		   *consumer = open_consumer(settings, stable, failure);
	OutboxFailure		ignored;
	rd_kafka_resp_err_t code;
	int					timeout_ms = FIRST_ASK_TIMEOUT_MS;
	bool				ok;

	if (consumer == NULL)
		return false;
	if (!stable)
		outbox_forget_client_error();
	do
	{
		ok = ask_cursor(consumer, settings, timeout_ms, cursor, &code, failure);
		timeout_ms = ASK_TIMEOUT_MS;
	} while (ok && code != RD_KAFKA_RESP_ERR_NO_ERROR &&
			 outbox_clock_us() - started < read_limit_us(stable));
	if (ok && code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_failure_from_code(failure, code, "reading the cursor", NULL);
		ok = false;
	}
	/*
	 * there is no producer yet, people look for what they have declared, and alive.c needs the
	 * cursor topic
	 */
	if (ok && !stable && !outbox_topics_ensure(consumer, settings->cursor_topic, &ignored))
		outbox_process_log("%s failed: %s", ignored.tried, ignored.text);
	close_consumer(consumer);
	return ok;
}

/* at_least_once: this cursor is to be committed as soon as may be. */
void
outbox_cursor_store(const OutboxCursor *cursor)
{
	if (!has_waiting && !has_under_way)
		behind_since = outbox_clock_us();
	else if (!has_waiting)
		waiting_since = outbox_clock_us();
	waiting = *cursor;
	has_waiting = true;
}

/* For how long, in us, Kafka has not had the newest cursor it was to have. */
int64_t
outbox_cursor_behind_us(void)
{
	return has_waiting || has_under_way ? outbox_clock_us() - behind_since : 0;
}

/* The descriptor that becomes readable when a commit is answered, or -1. */
int
outbox_cursor_wakeup_fd(void)
{
	return wakeup_fds[0];
}

static bool
open_committer(const OutboxSettings *settings)
{
	OutboxFailure failure;

	if (committer != NULL)
		return true;
	if (wakeup_fds[0] < 0 && pipe2(wakeup_fds, O_NONBLOCK | O_CLOEXEC) != 0)
		return false;
	committer = open_consumer(settings, true, &failure);
	if (committer == NULL)
	{
		outbox_process_log("cannot store the cursor: %s", failure.text);
		return false;
	}
	commit_queue = rd_kafka_queue_new(committer);
	rd_kafka_queue_io_event_enable(commit_queue, wakeup_fds[1], "c", 1);
	return true;
}

static void
take_commit_answer(void)
{
	char			  drain[64];
	rd_kafka_event_t *event;

	while (read(wakeup_fds[0], drain, sizeof(drain)) > 0)
		;
	rd_kafka_poll(committer, 0);
	event = rd_kafka_queue_poll(commit_queue, 0);
	if (event == NULL)
		return;
	if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_OFFSET_COMMIT)
	{
		has_under_way = false;
		if (rd_kafka_event_error(event) == RD_KAFKA_RESP_ERR_NO_ERROR)
			behind_since = waiting_since;
		else
		{
			outbox_process_log("storing cursor %" PRId64 " failed, will be tried again: %s",
							   under_way.batch_no, rd_kafka_event_error_string(event));
			if (!has_waiting)
				waiting = under_way;
			has_waiting = true;
			retry_at = outbox_clock_us() + COMMIT_RETRY_US;
		}
	}
	rd_kafka_event_destroy(event);
}

static void
send_commit(const OutboxSettings *settings)
{
	rd_kafka_topic_partition_list_t *list = outbox_cursor_offsets(settings, &waiting);
	rd_kafka_resp_err_t code = rd_kafka_commit_queue(committer, list, commit_queue, NULL, NULL);

	rd_kafka_topic_partition_list_destroy(list);
	if (code != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_process_log("storing cursor %" PRId64 " failed, will be tried again: %s",
						   waiting.batch_no, rd_kafka_err2str(code));
		retry_at = outbox_clock_us() + COMMIT_RETRY_US;
		return;
	}
	under_way = waiting;
	has_under_way = true;
	has_waiting = false;
}

/* Moves the commit of the newest cursor on; true when nothing is left to do. */
bool
outbox_cursor_serve(const OutboxSettings *settings)
{
	if (!has_waiting && !has_under_way)
		return true;
	if (!open_committer(settings))
		return false;
	take_commit_answer();
	if (has_waiting && !has_under_way && outbox_clock_us() >= retry_at)
		send_commit(settings);
	return !has_waiting && !has_under_way;
}

/* Waits until every cursor given so far is committed; false if it takes longer. */
bool
outbox_cursor_drain(const OutboxSettings *settings, int timeout_ms)
{
	int64_t deadline = outbox_clock_us() + (int64_t) timeout_ms * 1000;

	while (!outbox_cursor_serve(settings))
	{
		struct timespec pause = {.tv_nsec = 200 * 1000};

		if (outbox_clock_us() >= deadline)
			return false;
		nanosleep(&pause, NULL);
	}
	return true;
}

/*
 * Drops the committer, as after OPEN its settings may be others.  A cursor not
 * stored by then is forgotten: its batch will be sent again.
 */
void
outbox_cursor_close(void)
{
	if (committer == NULL)
		return;
	rd_kafka_queue_io_event_enable(commit_queue, -1, NULL, 0);
	rd_kafka_queue_destroy(commit_queue);
	close_consumer(committer);
	committer = NULL;
	commit_queue = NULL;
	has_waiting = false;
	has_under_way = false;
}
