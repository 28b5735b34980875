/* SPDX-License-Identifier: PostgreSQL
 *
 * judge.c
 *	  Would Kafka refuse the event?  So far as the limits of its topic tell.
 *
 * Runs in the sender, main thread.  "No" may be wrong, then Kafka refuses; "yes" is certain, for
 * limits that are fresh: an event that Kafka would take is never refused here.  What compression
 * makes of a record is not known before; its least size is.
 */
#include "judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "limits.h"
#include "settings.h"
#include "topics.h"
#include "src/common/record_size.h"

#define JOINT_BYTES	   32 /* sequences that span key, payload and what lies between */
#define LEAST_BITS	   (64 * 1024)
#define MOST_BITS	   (64 * 1024 * 1024) /* 8 MB; beyond, more seems to repeat */
#define BITS_OF_A_BYTE 16				  /* of the table of sequences, for a byte of the event */

static void
describe_parts(const OutboxWireEvent *event, const OutboxSettings *settings,
			   OutboxRecordParts *parts)
{
	*parts = (OutboxRecordParts) {
		.key_len = event->key == NULL ? -1 : (int64_t) event->key_len,
		.payload_len = event->payload == NULL ? -1 : (int64_t) event->payload_len,
		.headers = event->headers,
		.headers_len = event->headers_len,
		.type_len = event->type_len,
		.content_type_len = event->content_type_len,
		.source_len = settings->cloudevents ? (int64_t) strlen(settings->source) : -1,
	};
}

/* The fewest bytes that key and payload can have in a compressed record; counts up to enough. */
static size_t
least_compressed(const OutboxWireEvent *event, size_t enough)
{
	static uint8_t *seen;
	static size_t	room;
	size_t			wanted = ((size_t) event->key_len + event->payload_len) * BITS_OF_A_BYTE;
	OutboxSequences sequences = {.bits = LEAST_BITS};
	size_t			least;

	while (sequences.bits < wanted && sequences.bits < MOST_BITS)
		sequences.bits *= 2;
	if (sequences.bits / 8 > room)
	{
		free(seen);
		room = sequences.bits / 8;
		seen = malloc(room);
		if (seen == NULL)
		{
			room = 0;
			return 0;
		}
	}
	memset(seen, 0, sequences.bits / 8);
	sequences.seen = seen;
	least = outbox_sequences_least(&sequences, event->key, event->key_len, enough + JOINT_BYTES);
	least += outbox_sequences_least(&sequences, event->payload, event->payload_len,
									enough + JOINT_BYTES - least);
	return least > JOINT_BYTES ? least - JOINT_BYTES : 0;
}

static bool
is_too_large(const OutboxTopic *topic, const OutboxWireEvent *event, const OutboxSettings *settings)
{
	size_t			  limit = (size_t) topic->limits.max_message_bytes;
	OutboxRecordParts parts;

	describe_parts(event, settings, &parts);
	if (outbox_record_batch_size(&parts) <= limit)
		return false;
	switch (settings->codec)
	{
		case OUTBOX_CODEC_NONE:
			return true;
		case OUTBOX_CODEC_COPYING:
			return least_compressed(event, limit + 1) > limit;
		case OUTBOX_CODEC_OTHER:
			break;
	}
	return false;
}

/* The error that Kafka would refuse the event with, by the limits as they are known. */
static rd_kafka_resp_err_t
judge(const OutboxTopic *topic, const OutboxWireEvent *event, const OutboxSettings *settings)
{
	if (topic->limits.compacted && event->key == NULL)
		return RD_KAFKA_RESP_ERR_INVALID_RECORD;
	if (is_too_large(topic, event, settings))
		return RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE;
	return RD_KAFKA_RESP_ERR_NO_ERROR;
}

/*
 * 0: Kafka may take it; else the error it would refuse it with, and why in text.  since_us: when
 * the batch began; a limit that was changed before an event was emitted counts for it.
 */
rd_kafka_resp_err_t
outbox_judge_event(rd_kafka_t *client, OutboxTopic *topic, const OutboxWireEvent *event,
				   const OutboxSettings *settings, int64_t since_us, char *text, size_t size)
{
	rd_kafka_resp_err_t code;

	if (!topic->limits.known || judge(topic, event, settings) == RD_KAFKA_RESP_ERR_NO_ERROR ||
		!outbox_limits_freshen(client, topic, since_us))
		return RD_KAFKA_RESP_ERR_NO_ERROR;
	code = judge(topic, event, settings);
	outbox_judge_explain(topic, code, text, size);
	return code;
}

/*
 * Kafka's text of a refusal and, where it is known, the property and its value that are behind it.
 */
void
outbox_judge_explain(const OutboxTopic *topic, rd_kafka_resp_err_t code, char *text, size_t size)
{
	const OutboxTopicLimits *limits = &topic->limits;
	const char				*told = rd_kafka_err2str(code);

	if (limits->known && code == RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE &&
		limits->max_message_bytes != INT64_MAX)
		snprintf(text, size, "%s: max.message.bytes of topic \"%s\" is %" PRId64, told, topic->name,
				 limits->max_message_bytes);
	else if (limits->known && code == RD_KAFKA_RESP_ERR_INVALID_RECORD && limits->compacted)
		snprintf(text, size,
				 "%s: cleanup.policy of topic \"%s\" has compact, which takes no event without a "
				 "key",
				 told, topic->name);
	else
		snprintf(text, size, "%s", told);
}
