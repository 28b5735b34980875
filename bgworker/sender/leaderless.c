/* SPDX-License-Identifier: PostgreSQL
 *
 * leaderless.c
 *	  Topics of the batch under way that have no leader: withheld, waited for, given up.
 *
 * Runs in the sender, main thread.  A partition without a leader in a transaction keeps that from
 * ending until it has one again, even from being aborted.  So what is known to have none when its
 * first event comes is not handed to librdkafka.
 */
#include "leaderless.h"

#include <inttypes.h>
#include <stdlib.h>

#include "batch_state.h"
#include "leaders.h"
#include "output.h"
#include "process.h"

#define WATCH_EVERY_US 100000
#define STALL_US	   2000000 /* without a report: then somebody looks for leaders */
#define TELL_US		   5000000 /* an election is over by then, as a rule */
#define LIST_MOST	   64	   /* topics of one LEADERS */

typedef struct LeaderlessTopic
{
	const OutboxTopic *topic;
	int32_t			   partition;
	int64_t			   for_us;
} LeaderlessTopic;

/* Since outbox_leaderless_begin. */
static LeaderlessTopic list[LIST_MOST];
static size_t		   list_count;
static size_t		   told_count; /* of them the relay has heard of so many */
static bool			   given_up;
static int64_t		   limit_us;
static int64_t		   begun_us;
static int64_t		   progress_us; /* the newest report */
static int64_t		   watched_us;

/* A batch begins. */
void
outbox_leaderless_begin(const OutboxSettings *settings)
{
	list_count = told_count = 0;
	given_up = false;
	limit_us = settings->leaderless_us;
	begun_us = progress_us = watched_us = outbox_clock_us();
}

/* The topic's first event in the batch: are its events to be withheld? */
void
outbox_leaderless_use(OutboxTopic *topic)
{
	int32_t partition;
	int64_t for_us;

	topic->withheld = outbox_leaders_lack(topic->name, &partition, &for_us);
}

/* Kafka has told what became of an event. */
void
outbox_leaderless_progress(void)
{
	progress_us = outbox_clock_us();
}

/* Those of the batch that wait for a leader. */
static void
list_topics(void)
{
	OutboxTopic *topic;
	size_t		 at = 0;

	list_count = 0;
	while ((topic = outbox_topics_next(&at)) != NULL && list_count < LIST_MOST)
	{
		LeaderlessTopic *one = &list[list_count];

		if (topic->seen_in_batch != outbox_batch.serial ||
			(!topic->withheld && topic->under_way == 0) ||
			!outbox_leaders_lack(topic->name, &one->partition, &one->for_us))
			continue;
		one->topic = topic;
		list_count++;
	}
}

/* Those for whose sake the batch is given up stay in the list. */
static bool
list_given_up(void)
{
	size_t kept = 0;

	for (size_t i = 0; i < list_count; i++)
		if (!list[i].topic->waits && list[i].for_us >= limit_us)
			list[kept++] = list[i];
	if (kept == 0)
		return false;
	list_count = kept;
	return true;
}

/* LEADERS of the list.  False: no memory. */
bool
outbox_leaderless_put(OutboxWireBuffer *frame, bool is_answer)
{
	bool ok = outbox_wire_put_u8(frame, is_answer ? 1 : 0) &&
		outbox_wire_put_u16(frame, (uint16_t) list_count);

	for (size_t i = 0; ok && i < list_count; i++)
		ok = outbox_wire_put_cstring(frame, list[i].topic->name) &&
			outbox_wire_put_u32(frame, (uint32_t) list[i].partition) &&
			outbox_wire_put_u64(frame, (uint64_t) list[i].for_us / 1000);
	return ok;
}

/* When the relay hears what the batch waits for. */
static int64_t
tell_us(void)
{
	return limit_us / 2 < TELL_US ? limit_us / 2 : TELL_US;
}

/* The relay hears early what the batch waits for. */
static void
tell_early(void)
{
	static OutboxWireBuffer frame = {.grow = realloc};
	size_t					mark;

	if (list_count == told_count || outbox_clock_us() - begun_us < tell_us())
		return;
	told_count = list_count;
	frame.len = 0;
	if (!outbox_wire_begin(&frame, OUTBOX_FRAME_LEADERS, &mark) ||
		!outbox_leaderless_put(&frame, false))
		outbox_exit_out_of_memory();
	outbox_wire_finish(&frame, mark);
	(void) outbox_output_write(&frame);
}

/* Called often while the batch waits; true: it is to be given up. */
bool
outbox_leaderless_watch(void)
{
	int64_t now_us = outbox_clock_us();

	if (given_up || now_us - watched_us < WATCH_EVERY_US)
		return given_up;
	watched_us = now_us;
	if (now_us - progress_us >= STALL_US)
		outbox_leaders_worry(0);
	list_topics();
	given_up = list_given_up();
	if (!given_up)
		tell_early();
	return given_up;
}

static const OutboxTopic *
find_withheld(void)
{
	OutboxTopic *topic;
	size_t		 at = 0;

	while ((topic = outbox_topics_next(&at)) != NULL)
		if (topic->seen_in_batch == outbox_batch.serial && topic->withheld)
			return topic;
	return NULL;
}

static bool
fail_withheld(const OutboxTopic *topic, OutboxFailure *failure)
{
	int32_t partition;
	int64_t for_us;

	outbox_batch.failed.leaderless = true;
	if (outbox_leaders_lack(topic->name, &partition, &for_us))
		outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
						   "sending events",
						   "partition %" PRId32 " of topic \"%s\" has no leader: for %" PRId64 " s",
						   partition, topic->name, for_us / 1000000);
	else
		outbox_failure_set(failure, OUTBOX_ERROR_RETRIABLE, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
						   "sending events",
						   "topic \"%s\" has its leaders again, the batch begins anew",
						   topic->name);
	return false;
}

/*
 * All else of the batch is reported: waits for what was withheld.  True: nothing was.  False: the
 * batch is given up, or failed: a topic has its leaders again, or has none for too long.
 */
bool
outbox_leaderless_await(OutboxFailure *failure)
{
	const OutboxTopic *topic = find_withheld();
	int32_t			   partition;
	int64_t			   for_us;

	if (topic == NULL)
		return true;
	outbox_batch.failed.leaderless = true;
	while (!outbox_leaderless_watch())
	{
		if (outbox_clock_us() - begun_us >= limit_us ||
			!outbox_leaders_lack(topic->name, &partition, &for_us))
			return fail_withheld(topic, failure);
		outbox_pause_briefly();
	}
	return false;
}

/* Was the batch given up for the sake of topics without a leader? */
bool
outbox_leaderless_given_up(void)
{
	return given_up;
}
