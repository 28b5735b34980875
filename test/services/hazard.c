/* SPDX-License-Identifier: PostgreSQL
 *
 * hazard.c
 *	  outbox-hazard: a consumer that does with each record what the record says:
 *	  take it, fail, or end the process, at once or when it is tried again.
 *
 * Built for test/e2e/test_consumer_crash.py on the real runtime, never installed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/runtime/record_log.h"
#include "services/runtime/service.h"

static const char take_sql[] = "SELECT hazard.take($1, $2, $3::jsonb)";

static OutboxVerdict
decode_hazard(const OutboxRecord *record, OutboxCall *call)
{
	json_t	   *event = outbox_decode_object(record, call);
	const char *what;

	if (event == NULL || !outbox_decode_require(event, "what", JSON_STRING, call))
	{
		json_decref(event);
		return OUTBOX_VERDICT_REJECT;
	}
	what = json_string_value(json_object_get(event, "what"));
	if (strcmp(what, "abort") == 0 || (strcmp(what, "abort-retry") == 0 && record->source == NULL))
	{
		outbox_log_record(OUTBOX_LOG_WARNING, "hazard", record, "the process ends");
		abort();
	}
	outbox_call_begin(call, take_sql);
	outbox_call_add(call, (const char *) record->key, record->key_len);
	outbox_call_add_text(call, record->event_id);
	outbox_call_add(call, (const char *) record->value, record->value_len);
	json_decref(event);
	return OUTBOX_VERDICT_CALL;
}

/* The topic's name is a setting: each test has its own. */
static OutboxHandler hazard_handlers[] = {
	{"", NULL, decode_hazard, NULL},
	{NULL, NULL, NULL, NULL},
};

static const OutboxOption hazard_options[] = {
	{.name = "topic",
	 .kind = OUTBOX_OPTION_TEXT,
	 .variable = &hazard_handlers[0].topic,
	 .text = "topic to read"},
	{.name = NULL},
};

static const OutboxService hazard_service = {
	.name = "outbox-hazard",
	.summary = "does with each record what the record says",
	.group = "hazard",
	.http_port = "8188",
	.handlers = hazard_handlers,
	.options = hazard_options,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &hazard_service);
}
