/* SPDX-License-Identifier: PostgreSQL
 *
 * event.c
 *	  A record as the fields of outbox.consumed_event or outbox.consumed_bytes.
 *
 * Runs in outbox-consume, member threads.
 */
#define _GNU_SOURCE
#include "event.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/runtime/call.h"

/* Numbers are PostgreSQL's business: any JSON value, however large a whole number in it. */
#define JSON_FLAGS (JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL)

/* Can the bytes be an SQL text: UTF-8 without a zero? */
static bool
is_text(const uint8_t *data, size_t len)
{
	json_t *string;

	if (memchr(data, 0, len) != NULL)
		return false;
	string = json_stringn((const char *) data, len);
	json_decref(string);
	return string != NULL;
}

/* When the event happened, in seconds since 1970: ce_time, else the record's time. */
static void
add_time(const OutboxRecord *record, OutboxCall *call)
{
	char seconds[48];

	if (record->event_us != OUTBOX_NO_TIME)
	{
		int64_t us = record->event_us;
		int64_t whole = us / 1000000 - (us % 1000000 < 0);

		snprintf(seconds, sizeof(seconds), "%" PRId64 ".%06d", whole, (int) (us - whole * 1000000));
	}
	else if (record->timestamp_ms >= 0)
		snprintf(seconds, sizeof(seconds), "%.3f", (double) record->timestamp_ms / 1000);
	outbox_call_add_text(call,
						 record->event_us != OUTBOX_NO_TIME || record->timestamp_ms >= 0 ? seconds :
																						   NULL);
}

/* Key and value as text and JSON; false: they are none. */
static bool
add_json(const OutboxRecord *record, OutboxCall *call)
{
	json_error_t error;
	json_t		*value;

	if (record->key != NULL && !is_text(record->key, record->key_len))
	{
		outbox_call_reject(call, "the key is not UTF-8 text (value_format = bytes takes any)");
		return false;
	}
	if (record->value != NULL)
	{
		value = json_loadb((const char *) record->value, record->value_len, JSON_FLAGS, &error);
		if (value == NULL)
		{
			outbox_call_reject(call, "not JSON: %s at byte %d", error.text, error.position);
			return false;
		}
		json_decref(value);
	}
	outbox_call_add(call, (const char *) record->key, record->key_len);
	outbox_call_add(call, (const char *) record->value, record->value_len);
	return true;
}

bool
consume_add_event(const OutboxRecord *record, bool bytes, OutboxCall *call)
{
	char partition[16];
	char offset[24];

	snprintf(partition, sizeof(partition), "%d", (int) record->partition);
	snprintf(offset, sizeof(offset), "%" PRId64, record->offset);
	outbox_call_add_text(call, record->event_id);
	outbox_call_add_text(call, record->event_type);
	outbox_call_add_text(call, record->topic);
	outbox_call_add_text(call, partition);
	outbox_call_add_text(call, offset);
	if (bytes)
	{
		outbox_call_add_bytes(call, record->key, record->key_len);
		outbox_call_add_bytes(call, record->value, record->value_len);
	}
	else if (!add_json(record, call))
		return false;
	outbox_call_add_bytes(call, record->headers, record->headers_len);
	outbox_call_add_bytes(call, (const uint8_t *) record->correlation_id,
						  record->correlation_id != NULL ? strlen(record->correlation_id) : 0);
	add_time(record, call);
	outbox_call_add_text(call,
						 record->replay_id != NULL && outbox_uuid_valid(record->replay_id) ?
							 record->replay_id :
							 NULL);
	return true;
}
