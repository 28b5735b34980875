/* SPDX-License-Identifier: PostgreSQL
 *
 * record.h
 *	  One record as the runtime and the handlers see it, whether it comes from
 *	  Kafka or, for a retry, from outbox.dead_letter.
 */
#ifndef OUTBOX_RECORD_H
#define OUTBOX_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "event_id.h"
#include "event_time.h"
#include "services/lib/trace_context.h"

/* What outbox.correlation_id, outbox.tracestate and an event's type take, in bytes. */
#define OUTBOX_CORRELATION_MAX 256
#define OUTBOX_TRACESTATE_MAX  512
#define OUTBOX_TYPE_MAX		   255

struct OutboxPartition;

typedef struct OutboxRecord
{
	const char	  *topic;
	int32_t		   partition;
	int64_t		   offset;
	int64_t		   timestamp_ms; /* since 1970; -1: none, or no date */
	/* ce_time, microseconds since 1970; OUTBOX_NO_TIME: none, or no date */
	int64_t		   event_us;
	const uint8_t *key; /* NULL: no key */
	size_t		   key_len;
	const uint8_t *value; /* NULL: tombstone */
	size_t		   value_len;
	const uint8_t *headers; /* Kafka's encoding, see kafka_headers.h; NULL: none */
	size_t		   headers_len;
	/* ce_id, else id, else made from position, time stamp and content */
	char		   event_id[OUTBOX_UUID_TEXT];
	/* ce_type, else eventType, as outbox_text_header has it; NULL: none */
	char		  *event_type;
	char		  *correlation_id; /* likewise, at most OUTBOX_CORRELATION_MAX bytes; NULL: none */
	char		  *traceparent;	   /* valid; NULL: none */
	char		  *tracestate;	   /* NULL: none */
	/* traceparent's, or of the trace begun for it; "": none */
	char		   trace_id[OUTBOX_TRACE_ID_TEXT];
	char		  *replay_id; /* uuid of the outbox.replay() this is a copy of; NULL: none */
	bool		   reprocess; /* to be run although it was processed before */
	/* what is claimed: event_id; with reprocess one of event and replay */
	char		   claim_id[OUTBOX_UUID_TEXT];

	struct OutboxPartition *source;		   /* NULL: from outbox.dead_letter */
	void				   *memory;		   /* what topic, key, value point into; owner's business */
	uint8_t				   *header_memory; /* malloc'ed */

	/* value and headers as they came: other ones where a CloudEvent was in structured mode */
	const uint8_t *raw_value;
	size_t		   raw_value_len;
	const uint8_t *raw_headers;
	size_t		   raw_headers_len;
	/* why the CloudEvent it should be cannot be read, malloc'ed; NULL: nothing is wrong */
	char		  *refusal;
	uint8_t		  *event_headers; /* malloc'ed headers and value of such an event; NULL: none */
	uint8_t		  *event_value;
} OutboxRecord;

/*
 * Once, for a record as it came: reads a CloudEvent in structured mode (see cloudevent.h), then
 * fills what stands behind headers_len from the headers and the position.
 *
 * ce_id names the event: a UUID by itself, any other bytes together with ce_source (without one,
 * with the topic); what id names where there is no ce_id is one of the topic.  See event_id.h.
 */
extern void outbox_record_identify(OutboxRecord *record);

/*
 * The event id the record had before time stamp and digest were part of one: a valid UUID in its
 * headers, else made from topic, partition and offset.
 */
extern void outbox_record_old_id(const OutboxRecord *record, char id[OUTBOX_UUID_TEXT]);

/*
 * A record's time stamp as it is kept; -1: none, or no date: a producer may write anything, a
 * timestamptz cannot hold it.
 */
extern int64_t outbox_record_time(int64_t timestamp_ms);

/* Frees what outbox_record_identify made, and header_memory. */
extern void outbox_record_clear(OutboxRecord *record);

/*
 * Is the record for this consumer?  False only for a copy that a replay made for another one,
 * compared byte for byte.
 */
extern bool outbox_record_is_for(const OutboxRecord *record, const char *consumer);

/* A header's value as malloc'ed text (outbox_text_header); NULL: absent or NULL. */
extern char *outbox_record_header(const OutboxRecord *record, const char *name);

/* The key for people: printable ASCII as it is, anything else as 0x and hex, cut to fit. */
extern const char *outbox_record_key_text(const OutboxRecord *record, char *buffer, size_t size);

/* "8-4-4-4-12" hex digits? */
extern bool outbox_uuid_valid(const char *text);

#endif /* OUTBOX_RECORD_H */
