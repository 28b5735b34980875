/* SPDX-License-Identifier: PostgreSQL
 *
 * record_log.c
 *	  Log lines about a record.
 *
 * Runs in the services, any thread.
 */
#include "record_log.h"


static json_t *
describe_record(const OutboxRecord *record)
{
	json_t *fields = json_object();

	json_object_set_new(fields, "topic", outbox_log_text(record->topic));
	json_object_set_new(fields, "partition", json_integer(record->partition));
	json_object_set_new(fields, "offset", json_integer(record->offset));
	json_object_set_new(fields, "event_id", outbox_log_text(record->event_id));
	if (record->reprocess)
		json_object_set_new(fields, "replay_id", outbox_log_text(record->replay_id));
	if (record->correlation_id != NULL)
		json_object_set_new(fields, "correlation_id", outbox_log_text(record->correlation_id));
	if (record->trace_id[0] != '\0')
		json_object_set_new(fields, "trace_id", json_string(record->trace_id));
	return fields;
}

void
outbox_log_record(OutboxLogLevel level, const char *event, const OutboxRecord *record,
				  const char *format, ...)
{
	va_list arguments;

	if (!outbox_log_wants(level))
		return;
	va_start(arguments, format);
	outbox_log_fields(level, event, record != NULL ? describe_record(record) : NULL, format,
					  arguments);
	va_end(arguments);
}
