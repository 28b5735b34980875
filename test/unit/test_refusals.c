/* SPDX-License-Identifier: PostgreSQL
 *
 * test_refusals.c
 *	  Which of a batch's refusals the sender tells, and how.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bgworker/sender/failure.h"
#include "bgworker/sender/halving.h"
#include "bgworker/sender/judge.h"
#include "bgworker/sender/process.h"
#include "bgworker/sender/refusals.h"
#include "bgworker/sender/topics.h"

#include "unit.h"

#define TEXTS_MOST 64

static OutboxTopic *topic;

static void
begin(void)
{
	outbox_refusals_clear();
	topic = outbox_topic_find("topic", 5);
	topic->refused = false;
	topic->unanswered_from = UINT32_MAX;
}

static void
note_ours(uint32_t index, const char *key, const char *text)
{
	OutboxWireEvent event = {.key = (const uint8_t *) key, .key_len = (uint32_t) strlen(key)};

	outbox_refusals_note_ours(index, topic, &event, RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, text);
}

static size_t
sift(void)
{
	OutboxSuspects suspects;

	return outbox_refusals_sift(false, &suspects);
}

/* The relay walks its events once: one that comes twice would never be found. */
static void
test_twice(void)
{
	uint32_t first = 0;

	begin();
	note_ours(3, "k", "large");
	note_ours(5, "k", "large");
	CHECK(outbox_refusals_only_ours(), "single events are refused by us");
	outbox_refusals_note_topic(3, topic, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "denied");
	CHECK(!outbox_refusals_only_ours(), "and then their topic as a whole");
	CHECK(sift() == 2, "an event that is refused alone and with its topic is told once");
	CHECK(strcmp(outbox_refusals_first(&first), "denied") == 0 && first == 3 &&
			  outbox_refusals_have_topic(),
		  "with its topic");
}

static void
test_order(void)
{
	OutboxWireEvent event = {.key = (const uint8_t *) "k", .key_len = 1};

	begin();
	note_ours(3, "k", "large");
	note_ours(5, "l", "large");
	CHECK(outbox_refusals_hold(topic, &event), "what follows in the key of a refused one waits");
	event.key = (const uint8_t *) "m";
	CHECK(!outbox_refusals_hold(topic, &event), "another key does not");
	outbox_topic_unanswered(topic, 4);
	CHECK(sift() == 1, "what is behind an event without an answer is not told");
	outbox_topic_unanswered(topic, 1);
	CHECK(sift() == 0, "nor is the other one behind an earlier one");
}

/* Each event has a text of its own: the first are told, no event gets another one's. */
static void
test_texts(void)
{
	OutboxWireBuffer frame = {.grow = realloc};
	OutboxWireReader body = {0};
	const char		*text;
	uint32_t		 len;
	size_t			 told;
	char			 name[32];

	begin();
	for (uint32_t i = 0; i < 2 * TEXTS_MOST; i++)
	{
		snprintf(name, sizeof(name), "reason %u", i);
		note_ours(i, name, name);
	}
	told = sift();
	CHECK(told == 2 * TEXTS_MOST && outbox_refusals_put(&frame, told), "all are told");
	body.pos = frame.data;
	body.end = frame.data + frame.len;
	CHECK(outbox_wire_get_u16(&body) == TEXTS_MOST, "with so many texts at most");
	for (int i = 0; i < TEXTS_MOST; i++)
		outbox_wire_get_string(&body, &text, &len);
	CHECK(memmem(text, len, "so many reasons", 15) != NULL, "of which the last is for all others");
	CHECK(outbox_wire_get_u32(&body) == told, "then the events");
	for (uint32_t i = 0; i < told; i++)
	{
		uint32_t index = outbox_wire_get_u32(&body);

		outbox_wire_get_u32(&body);
		outbox_wire_get_u8(&body);
		if (index != i || outbox_wire_get_u16(&body) != (i < TEXTS_MOST - 1 ? i : TEXTS_MOST - 1))
			body.bad = true;
	}
	CHECK(!body.bad && body.pos == body.end, "each with its own text or the last one");
	free(frame.data);
}

/*
 * Requests are small for the sake of a topic only while it is used: their size is that of all
 * topics.
 */
static void
test_small_requests(void)
{
	OutboxTopic *small = outbox_topic_find("small", 5);
	int64_t		 now_us = outbox_clock_us();

	small->limits = (OutboxTopicLimits) {.known = true, .max_message_bytes = 2000};
	CHECK(outbox_topics_batch_bytes() == 0, "requests are as large as the settings say");
	small->used_in_batch = 7;
	small->crowded_us = now_us - 61000000;
	CHECK(!outbox_topics_leave_crowd(7) && outbox_topics_batch_bytes() == 2000,
		  "as long as it is used");
	CHECK(!outbox_topics_leave_crowd(8) && outbox_topics_batch_bytes() == 2000,
		  "and a while after");
	small->crowded_us = now_us - 61000000;
	CHECK(outbox_topics_leave_crowd(8) && outbox_topics_batch_bytes() == 0,
		  "but no longer than a minute");
}

int
main(void)
{
	test_small_requests();
	test_twice();
	test_order();
	test_texts();
	return finish_tests();
}
