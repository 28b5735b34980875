/* SPDX-License-Identifier: PostgreSQL
 *
 * halving.c
 *	  How many records the producer's requests bring, to find one that Kafka refuses among many.
 *
 * Runs in the sender, main thread.  Each producer's requests bring half as many as those of the one
 * before it, so one record among n is alone after log2(n) of them.
 */
#include "halving.h"

#include "limits.h"
#include "process.h"
#include "refusals.h"
#include "topics.h"

#define SMALL_REQUESTS_US 60000000 /* passed without a refusal: twice as large again */
#define MOST_PER_REQUEST  10000	   /* librdkafka's default */

static uint32_t per_request;		  /* 0: no limit */
static bool		leave_small_requests; /* it was found: rebuild after a commit */
static int64_t	small_since;		  /* when per_request was set */

/* Records of a request of the next producer at most; 0: no limit. */
uint32_t
outbox_halving_per_request(void)
{
	return per_request;
}

/*
 * A request was refused for the sake of one record, or for all that it brought.  What the limits of
 * the topic explain is judged by them when the batch comes again; else the requests are made
 * smaller.
 */
void
outbox_halving_suspect(rd_kafka_t *client, const OutboxSuspects *suspects)
{
	OutboxTopic *topic = suspects->topic;
	bool		 crowded = suspects->error == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE ||
		suspects->error == RD_KAFKA_RESP_ERR_RECORD_LIST_TOO_LARGE;
	bool explained = outbox_limits_have_changed(client, topic);

	if (crowded && topic->limits.known && topic->limits.max_message_bytes != INT64_MAX &&
		topic->crowded_us == 0)
	{
		topic->crowded_us = outbox_clock_us();
		explained = true;
	}
	if (explained)
		return;
	per_request = per_request == 0 || suspects->count < per_request ? suspects->count : per_request;
	per_request = (per_request + 1) / 2;
	small_since = outbox_clock_us();
	leave_small_requests = false;
}

/* What was refused stood alone: no more small requests after the next batch that passes. */
void
outbox_halving_found(void)
{
	leave_small_requests = per_request > 0;
}

/* After a batch that has passed: are the next one's requests to be larger? */
bool
outbox_halving_grow(void)
{
	if (per_request == 0 ||
		(!leave_small_requests && outbox_clock_us() - small_since < SMALL_REQUESTS_US))
		return false;
	per_request = leave_small_requests || per_request > MOST_PER_REQUEST / 2 ? 0 : per_request * 2;
	leave_small_requests = false;
	small_since = outbox_clock_us();
	return true;
}
