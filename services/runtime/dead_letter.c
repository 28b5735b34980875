/* SPDX-License-Identifier: PostgreSQL
 *
 * dead_letter.c
 *	  A record that is not done becomes a row of outbox.dead_letter.
 *
 * Runs in the services, member threads.  The work is that of SQL functions
 * (extension/52-dead_letter_consumer.sql): they write the row, hold or release the key's
 * records, and publish to <topic>.DLT through the outbox in the same transaction.
 */
#define _GNU_SOURCE
#include "dead_letter.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "member_breaker.h"
#include "record_log.h"
#include "service_metrics.h"
#include "settings.h"
#include "services/lib/backoff.h"
#include "services/lib/bytea.h"

const char outbox_dead_letter_sql[] =
	"SELECT outbox.dead_letter_unpublished(outbox.dead_letter_add($1, $2, $3::integer, $4::bigint, "
	"$5::bytea,"
	" $6::bytea, $7::bytea, pg_catalog.to_timestamp($8::float8), $9::uuid, "
	"outbox.wire_text($10::bytea, 255),"
	" outbox.wire_text($11::bytea, 256), $12, $13, $14, outbox.wire_text($15::bytea, 1023), "
	"$16::integer,"
	" $17::integer, $18::boolean))";

static char *
copy_text(const char *text)
{
	return text != NULL ? strdup(text) : NULL;
}

static char *
copy_integer(int64_t value)
{
	char text[32];

	snprintf(text, sizeof(text), "%" PRId64, value);
	return strdup(text);
}

long
outbox_dead_letter_backoff(int failed)
{
	return outbox_backoff_grow(outbox_settings.retry_backoff_ms,
							   outbox_settings.retry_backoff_multiplier,
							   outbox_settings.retry_backoff_max_ms, (unsigned) failed);
}

const char *
outbox_dead_letter_state(const OutboxItem *item)
{
	if (item->claim == OUTBOX_CLAIM_HELD)
		return "held";
	if (item->verdict == OUTBOX_VERDICT_FAIL && outbox_settings.retry_max > 0)
		return "retrying";
	return "open";
}

void
outbox_dead_letter_values(const OutboxItem *item, char *values[OUTBOX_DEAD_LETTER_VALUES])
{
	const OutboxRecord *record = &item->record;
	bool				held = item->claim == OUTBOX_CLAIM_HELD;
	const OutboxError  *error = &item->call.error;
	char				seconds[32];

	snprintf(seconds, sizeof(seconds), "%.3f", (double) record->timestamp_ms / 1000);
	values[0] = copy_text(outbox_settings.group_id);
	values[1] = copy_text(record->topic);
	values[2] = copy_integer(record->partition);
	values[3] = copy_integer(record->offset);
	values[4] = outbox_bytea_text(record->key, record->key_len);
	values[5] = outbox_bytea_text(record->raw_value, record->raw_value_len);
	values[6] = outbox_bytea_text(record->raw_headers, record->raw_headers_len);
	values[7] = record->timestamp_ms >= 0 ? copy_text(seconds) : NULL;
	values[8] = copy_text(record->event_id);
	values[9] = outbox_bytea_of_text(record->event_type);
	values[10] = outbox_bytea_of_text(record->correlation_id);
	values[11] = copy_text(outbox_dead_letter_state(item));
	values[12] = copy_text(held ? "held" : outbox_failure_name(error->failure));
	values[13] = !held && error->sqlstate[0] != '\0' ? copy_text(error->sqlstate) : NULL;
	values[14] =
		outbox_bytea_of_text(held ? "an earlier record of the key is not done" : error->message);
	values[15] = copy_integer(outbox_dead_letter_backoff(1));
	values[16] = copy_integer(item->tries);
	values[17] = copy_text(outbox_settings.dlt_headers == OUTBOX_HEADERS_SPRING ? "t" : "f");
}

void
outbox_dead_letter_report(OutboxMember *member, const OutboxRecord *record, const char *state,
						  const OutboxError *error, const char *unpublished, int64_t failing_ms)
{
	char key[256];
	bool published = unpublished[0] == '\0';

	outbox_record_key_text(record, key, sizeof(key));
	if (strcmp(state, "open") == 0)
	{
		outbox_count_record(record->topic, "dead_lettered");
		outbox_log_record(OUTBOX_LOG_ERROR, published ? "dead_letter" : "dead_letter_unpublished",
						  record,
						  "%s to %s.DLT%s%s partition=%d offset=%" PRId64 " key=%s reason=%s",
						  published ? "Publishing" : "Not published", record->topic,
						  published ? "" : ": ", unpublished, (int) record->partition,
						  record->offset, key, error->message);
		outbox_breaker_count(member, record, error, failing_ms);
	}
	else if (strcmp(state, "retrying") == 0)
	{
		outbox_count_record(record->topic, "retried");
		outbox_log_record(OUTBOX_LOG_WARNING, "retry_scheduled", record, "key=%s reason=%s", key,
						  error->message);
	}
	else
	{
		outbox_count_record(record->topic, "held");
		outbox_log_record(OUTBOX_LOG_INFO, "record_held", record,
						  "key=%s waits behind an earlier record", key);
	}
}
