/* SPDX-License-Identifier: PostgreSQL
 *
 * record.c
 *	  One event as one Kafka record: headers, time, key and payload.
 *
 * Runs in the sender.  This is the path of every event: nothing is allocated
 * here, texts are formatted by hand, the date part of ce_time is kept for the
 * second it holds for.
 */
#include "record.h"

#include <string.h>
#include <time.h>

#include "settings.h"
#include "topics.h"
#include "src/common/kafka_headers.h"

#define USUAL_HEADERS 8
#define CE_TIME_LEN	  27 /* 2026-01-31T12:34:56.123456Z */
#define UUID_TEXT_LEN 36

static void
format_uuid(char *dst, const uint8_t *id)
{
	static const char digits[] = "0123456789abcdef";
	int				  i;

	for (i = 0; i < 16; i++)
	{
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*dst++ = '-';
		*dst++ = digits[id[i] >> 4];
		*dst++ = digits[id[i] & 15];
	}
}

static void
format_digits(char *dst, uint32_t value, int count)
{
	while (count-- > 0)
	{
		dst[count] = (char) ('0' + value % 10);
		value /= 10;
	}
}

/* RFC 3339 in UTC with microseconds; created_at in us since 1970. */
static void
format_time(char *dst, int64_t created_at)
{
	static int64_t kept_second = INT64_MIN;
	static char	   kept[CE_TIME_LEN + 1] = "0000-00-00T00:00:00.000000Z";
	int64_t		   second = created_at / 1000000;
	int64_t		   micros = created_at % 1000000;

	if (micros < 0)
	{
		micros += 1000000;
		second--;
	}
	if (second != kept_second)
	{
		time_t	  clock = (time_t) second;
		struct tm utc;

		gmtime_r(&clock, &utc);
		format_digits(kept, (uint32_t) (utc.tm_year + 1900), 4);
		format_digits(kept + 5, (uint32_t) (utc.tm_mon + 1), 2);
		format_digits(kept + 8, (uint32_t) utc.tm_mday, 2);
		format_digits(kept + 11, (uint32_t) utc.tm_hour, 2);
		format_digits(kept + 14, (uint32_t) utc.tm_min, 2);
		format_digits(kept + 17, (uint32_t) utc.tm_sec, 2);
		kept_second = second;
	}
	memcpy(dst, kept, CE_TIME_LEN);
	format_digits(dst + 20, (uint32_t) micros, 6);
}

/* CloudEvents 1.0, Kafka protocol binding, binary mode. */
static void
add_cloudevents(rd_kafka_headers_t *headers, const OutboxWireEvent *event, const char *source)
{
	char id[UUID_TEXT_LEN];
	char time[CE_TIME_LEN];

	format_uuid(id, event->id);
	format_time(time, event->created_at);
	rd_kafka_header_add(headers, "ce_specversion", 14, "1.0", 3);
	rd_kafka_header_add(headers, "ce_id", 5, id, sizeof(id));
	rd_kafka_header_add(headers, "ce_source", 9, source, (ssize_t) strlen(source));
	rd_kafka_header_add(headers, "ce_type", 7, event->type, event->type_len);
	rd_kafka_header_add(headers, "ce_time", 7, time, sizeof(time));
	if (event->content_type_len > 0)
		rd_kafka_header_add(headers, "content-type", 12, event->content_type,
							event->content_type_len);
}

/* The event's own headers in their order; false if the bytes are none. */
static bool
add_own(rd_kafka_headers_t *headers, const OutboxWireEvent *event)
{
	OutboxHeaderReader reader;
	OutboxHeader	   header;

	outbox_headers_read(&reader, event->headers, event->headers_len);
	while (outbox_headers_next(&reader, &header))
		rd_kafka_header_add(headers, header.name, (ssize_t) header.name_len, header.value,
							(ssize_t) header.value_len);
	return !reader.bad;
}

static void
set_pointer(rd_kafka_vu_t *part, rd_kafka_vtype_t type, const void *data, size_t size)
{
	part->vtype = type;
	part->u.mem.ptr = (void *) data;
	part->u.mem.size = size;
}

/*
 * Hands the event to librdkafka, which copies it; index comes back with its delivery report.
 * time_ms is the record's time stamp: the batch's, for the event's own may be of any age.  Returns
 * NULL or the error, which is the caller's.
 */
rd_kafka_error_t *
outbox_record_produce(rd_kafka_t *producer, OutboxTopic *topic, const OutboxWireEvent *event,
					  uint32_t index, int64_t time_ms, const OutboxSettings *settings)
{
	rd_kafka_headers_t *headers = rd_kafka_headers_new(USUAL_HEADERS);
	rd_kafka_error_t   *error;
	rd_kafka_vu_t		parts[7];

	if (settings->cloudevents)
		add_cloudevents(headers, event, settings->source);
	if (event->headers_len > 0 && !add_own(headers, event))
	{
		rd_kafka_headers_destroy(headers);
		return rd_kafka_error_new(RD_KAFKA_RESP_ERR_INVALID_RECORD,
								  "the event's headers are not in Kafka's encoding");
	}
	parts[0].vtype = RD_KAFKA_VTYPE_RKT;
	parts[0].u.rkt = topic->handle;
	parts[1].vtype = RD_KAFKA_VTYPE_MSGFLAGS;
	parts[1].u.i = RD_KAFKA_MSG_F_COPY;
	set_pointer(&parts[2], RD_KAFKA_VTYPE_VALUE, event->payload, event->payload_len);
	set_pointer(&parts[3], RD_KAFKA_VTYPE_KEY, event->key, event->key_len);
	parts[4].vtype = RD_KAFKA_VTYPE_TIMESTAMP;
	parts[4].u.i64 = time_ms;
	parts[5].vtype = RD_KAFKA_VTYPE_OPAQUE;
	parts[5].u.ptr = (void *) (uintptr_t) index;
	parts[6].vtype = RD_KAFKA_VTYPE_HEADERS;
	parts[6].u.headers = headers;
	error = rd_kafka_produceva(producer, parts, 7);
	if (error != NULL)
		rd_kafka_headers_destroy(headers);
	return error;
}
