/* SPDX-License-Identifier: PostgreSQL
 *
 * batch_end.c
 *	  The Kafka transaction of a batch: begun, and committed with the cursor last (I4), or aborted.
 *
 * Runs in the sender, main thread.
 */
#include "batch_end.h"

#include <stdio.h>
#include <string.h>

#include "batch_state.h"
#include "cursor.h"
#include "deadlines.h"
#include "explain.h"
#include "failure.h"
#include "halving.h"
#include "leaderless.h"
#include "leaders.h"
#include "notes.h"
#include "process.h"
#include "refusals.h"
#include "settings.h"
#include "topic_open.h"
#include "topics.h"
#include "watch.h"

#define REFUSED_WAIT_US			1000000	 /* for reports, once an event is refused */
#define PREVIOUS_WAIT_US		10000000 /* and for another of them, when librdkafka refused it */
#define GONE_LOOK_US			1500000	 /* unreported events: is their topic still there? */
#define CURSOR_BEHIND_US		1000000	 /* at_least_once: then batches wait for it */
#define CURSOR_DRAIN_TIMEOUT_MS 10000

static bool
begin_transaction(OutboxFailure *failure)
{
	rd_kafka_error_t *error;

	outbox_watch_begin();
	error = rd_kafka_begin_transaction(outbox_batch.producer);
	if (error == NULL)
		return true;
	outbox_failure_from_error(failure, error, "beginning a transaction");
	return false;
}

/* The cursor, last of all, then the commit (I4). */
static bool
commit_transaction(const OutboxSettings *settings, OutboxFailure *failure)
{
	rd_kafka_t						   *producer = outbox_batch.producer;
	rd_kafka_consumer_group_metadata_t *group;
	rd_kafka_topic_partition_list_t	   *offsets;
	rd_kafka_error_t				   *error;

	group = rd_kafka_consumer_group_metadata_new(settings->group);
	offsets = outbox_cursor_offsets(settings, &outbox_batch.cursor);
	error = rd_kafka_send_offsets_to_transaction(producer, offsets, group, -1);
	rd_kafka_topic_partition_list_destroy(offsets);
	rd_kafka_consumer_group_metadata_destroy(group);
	if (error != NULL)
	{
		outbox_failure_from_error(failure, error, "adding the cursor to a transaction");
		if (failure->kafka_error == RD_KAFKA_RESP_ERR_OFFSET_METADATA_TOO_LARGE)
			outbox_failure_precede(failure,
								   "the cursor's metadata has %zu bytes, more than "
								   "offset.metadata.max.bytes of "
								   "the brokers",
								   outbox_batch.cursor.metadata_len);
		return false;
	}
	OUTBOX_FAULT("sender-offsets-sent");
	if (outbox_batch.broken)
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

/* Begins the batch; false: a failure. */
bool
outbox_batch_open(const OutboxSettings *settings, OutboxFailure *failure)
{
	outbox_batch.begun = true;
	outbox_batch.started_us = outbox_clock_us();
	outbox_deadlines_begun();
	outbox_leaderless_begin(settings);
	if (!settings->exactly_once)
		return true;
	OUTBOX_MUTATE("cursor_first",
				  if (!begin_transaction(failure) ||
					  !commit_transaction(settings, failure)) return false);
	if (!begin_transaction(failure))
		return false;
	OUTBOX_FAULT("sender-begun");
	return true;
}

/* A topic of the batch that is no longer there: librdkafka itself would be slower to say so. */
static void
look_for_gone(rd_kafka_t *producer)
{
	outbox_batch.gone = outbox_topics_find_gone(producer, outbox_batch.serial);
}

/*
 * Is the batch lost, whatever is still reported?  None of these errors is a refusal's consequence.
 */
static bool
is_in_vain(void)
{
	return outbox_batch.failed.error == RD_KAFKA_RESP_ERR_INVALID_TIMESTAMP ||
		outbox_batch.failed.error == RD_KAFKA_RESP_ERR__MSG_TIMED_OUT;
}

/* Is the transaction whole, though it will be aborted for what we refuse? */
static bool
is_sending_on(void)
{
	return outbox_refusals_by_us() && !outbox_refusals_by_kafka() &&
		outbox_batch.failed.error == RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * How long Kafka may be silent about what precedes an event that we refuse: as long as a request
 * may take.
 */
static int64_t
longest_silence_us(void)
{
	const OutboxDeadlines *grown = outbox_deadlines_grown();

	return grown != NULL && grown->socket_ms * 1000 > PREVIOUS_WAIT_US ? grown->socket_ms * 1000 :
																		 PREVIOUS_WAIT_US;
}

/*
 * Waits for the report of every event; short flushes, because each one wakes the broker threads.
 * It ends, since every message times out; events of a topic that was deleted are not waited for so
 * long, others share their transaction.  librdkafka (2.0.2 at least) never reports a message that
 * comes back for a partition it has given up, also if the topic was made anew meanwhile.  A refused
 * batch waits too: an abort sent while partitions are still being added is answered
 * CONCURRENT_TRANSACTIONS and repeated.  What is dropped after an event that librdkafka refused
 * early may hold one that Kafka refuses and that precedes it in its key, so that is waited for
 * longer.
 */
static void
await_reports(void)
{
	rd_kafka_t *producer = outbox_batch.producer;
	int64_t		refused_us = 0;
	int64_t		looked_us = outbox_clock_us();
	int			waiting = 0;

	while (outbox_batch.gone == NULL && rd_kafka_flush(producer, 1) == RD_KAFKA_RESP_ERR__TIMED_OUT)
	{
		if (outbox_batch.gone == NULL)
			outbox_batch.gone = outbox_batch_take_shrunk();
		if (outbox_batch.gone != NULL || (!outbox_refusals_any() && is_in_vain()))
			break;
		if (!outbox_refusals_any() && !outbox_batch.ignore_reports && outbox_leaderless_watch())
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
		else if (outbox_clock_us() - refused_us >
				 (is_sending_on() ? longest_silence_us() : REFUSED_WAIT_US))
		{
			/* librdkafka sends no more in a failed transaction: drop what waits */
			outbox_batch.stalled |= is_sending_on();
			(void) rd_kafka_purge(producer, RD_KAFKA_PURGE_F_QUEUE);
			refused_us = outbox_clock_us();
		}
		waiting = rd_kafka_outq_len(producer);
	}
}

/*
 * A producer that starts anew sees that the topic is made again, or knows the new one, or refuses
 * its events.
 */
static bool
fail_gone(OutboxFailure *failure)
{
	outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART,
					   "sending events", "topic \"%s\" was deleted or made anew",
					   outbox_batch.gone->name);
	return false;
}

/* The next producer sends all of it again, and Kafka tells apart what it has from this one (I6). */
static bool
fail_presumed(OutboxFailure *failure)
{
	outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE, 0, "sending events",
					   "Kafka has not told that it took every record for topic \"%s\"",
					   outbox_batch.presumed->name);
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

	outbox_batch.ignore_reports = true;
	error = rd_kafka_abort_transaction(outbox_batch.producer, -1);
	if (error == NULL)
	{
		await_reports();
		return outbox_batch.gone == NULL || fail_gone(failure);
	}
	if (outbox_batch.denied && rd_kafka_error_code(error) == RD_KAFKA_RESP_ERR_INVALID_TXN_STATE)
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
	char		 name[OUTBOX_TOPIC_NAME_SIZE];
	OutboxTopic *topic;

	if (!outbox_take_denied_topic(name, sizeof(name)) ||
		error != RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED)
		return false;
	topic = outbox_topic_find(name, strlen(name));
	if (topic->used_in_batch != outbox_batch.serial)
		return false;
	outbox_batch_note_topic(topic->first_event, topic, (rd_kafka_resp_err_t) error, text);
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
	OutboxSuspects			  suspects;
	size_t					  told;

	if (outbox_batch.passed_over)
		(void) blame_denied_topic(denied, rd_kafka_err2str(denied));
	told = outbox_refusals_sift(outbox_halving_per_request() == 1, &suspects);
	if (told == 0 && suspects.count == 0 && outbox_batch.failed.error != RD_KAFKA_RESP_ERR_NO_ERROR)
	{
		outbox_explain_delivery(outbox_batch.producer, &outbox_batch.failed, failure);
		return false;
	}
	if (told == 0 && suspects.count == 0)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_ABORTABLE, 0, "sending events",
						   "%s: but Kafka has not answered for events ahead of it",
						   outbox_refusals_any_text());
		return false;
	}
	if (suspects.count > 0)
		outbox_halving_suspect(outbox_batch.producer, &suspects);
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
		outbox_topics_close(); /* so that the topic is looked up again */
	tell_refusals(&suspects, told, result);
	return true;
}

/*
 * Every report is in, or refusals are known.  False: what was reported does not tell where the
 * records are, or the batch is given up, which has no *failure.
 */
static bool
gather_reports(OutboxFailure *failure)
{
	await_reports();
	if (outbox_leaderless_given_up())
	{
		outbox_batch.failed.leaderless = true;
		return false;
	}
	if (outbox_batch.gone == NULL && !outbox_refusals_any() && outbox_batch.failed.error == 0 &&
		!outbox_leaderless_await(failure))
		return false;
	if (outbox_batch.gone == NULL && !outbox_refusals_any() && outbox_batch.failed.error == 0 &&
		!outbox_topics_find_changed(outbox_batch.producer, &outbox_batch.gone, failure))
		return false;
	if (outbox_batch.gone != NULL)
		return fail_gone(failure);
	if (outbox_batch.presumed != NULL && !outbox_refusals_any())
		return fail_presumed(failure);
	return true;
}

static bool
end_exactly_once(const OutboxSettings *settings, OutboxBatchResult *result, OutboxFailure *failure)
{
	if (!gather_reports(failure))
		return false;
	OUTBOX_FAULT("sender-flushed");
	if (!outbox_refusals_any() && outbox_batch.failed.error == 0)
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
	outbox_explain_delivery(outbox_batch.producer, &outbox_batch.failed, failure);
	return false;
}

/*
 * All events acknowledged; the cursor follows behind, one commit at a time, each of the newest
 * batch: Kafka lets every such commit wait 5 ms (group.coordinator.append.linger.ms).  After a
 * crash it may be several batches behind, by about a second at most.
 */
static bool
end_at_least_once(const OutboxSettings *settings, OutboxBatchResult *result, OutboxFailure *failure)
{
	if (!gather_reports(failure))
		return false;
	if (outbox_refusals_any())
		return abort_refused(settings, result, failure);
	if (outbox_batch.failed.error == 0 && outbox_batch.broken)
		outbox_batch.failed.error = RD_KAFKA_RESP_ERR__FATAL;
	if (outbox_batch.failed.error != 0)
	{
		outbox_explain_delivery(outbox_batch.producer, &outbox_batch.failed, failure);
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
	outbox_cursor_store(&outbox_batch.cursor);
	outbox_cursor_serve(settings);
	return true;
}

/* Ends the batch: true with *result (committed or refused), or false; *failure unless given up. */
bool
outbox_batch_end(const OutboxSettings *settings, uint32_t events, OutboxBatchResult *result,
				 OutboxFailure *failure)
{
	bool ok;

	memset(result, 0, sizeof(*result));
	if (!outbox_batch.begun && !outbox_batch_open(settings, failure))
		return false;
	if (events != outbox_batch.events)
	{
		outbox_failure_set(failure, OUTBOX_ERROR_FATAL, 0, "ending a batch",
						   "END speaks of %u events, %u were read", events, outbox_batch.events);
		return false;
	}
	ok = settings->exactly_once ? end_exactly_once(settings, result, failure) :
								  end_at_least_once(settings, result, failure);
	if (!ok && !outbox_leaderless_given_up())
		outbox_deadlines_failed(settings, outbox_batch.bytes, outbox_batch.stalled,
								!outbox_batch.failed.leaderless, failure);
	if (!ok || result->refused)
		return ok;
	/* the relay fences, and with that gets an ordinary producer again */
	outbox_leaders_rest(true);
	result->suspect |= outbox_halving_grow() | outbox_deadlines_committed() |
		outbox_topics_leave_crowd(outbox_batch.serial);
	result->batch_no = (uint64_t) outbox_batch.cursor.batch_no;
	result->events = outbox_batch.events;
	result->bytes = outbox_batch.bytes;
	result->duration_us = (uint64_t) (outbox_clock_us() - outbox_batch.started_us);
	return true;
}
