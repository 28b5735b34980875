/* SPDX-License-Identifier: PostgreSQL
 *
 * hazard.c
 *	  outbox-hazard: a consumer that does with each record what the record says:
 *	  take it, fail, or end the process, at once or when it is tried again.  With
 *	  calls = on it calls out, and what begins with "call-" does it in its call.
 *
 * Built for test/e2e/test_consumer_crash.py and test_calls.py on the real runtime, never installed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

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

/* Takes 100 ms, as another system would. */
static OutboxVerdict
call_hazard(const OutboxRecord *record, const char *told, OutboxCall *call)
{
	const struct timespec pause = {0, 100000000};
	json_t				 *event = json_loads(call->values[2], 0, NULL);
	const char			 *what = json_string_value(json_object_get(event, "what"));

	(void) told;
	nanosleep(&pause, NULL);
	if (strcmp(what, "call-abort") == 0 ||
		(strcmp(what, "call-abort-retry") == 0 && record->source == NULL))
	{
		outbox_log_record(OUTBOX_LOG_WARNING, "hazard", record, "the process ends");
		abort();
	}
	json_decref(event);
	return OUTBOX_VERDICT_CALL;
}

static const OutboxCallOut hazard_call = {NULL, call_hazard};

/* The topic's name is a setting: each test has its own. */
static OutboxHandler hazard_handlers[] = {
	{"", NULL, decode_hazard, NULL},
	{NULL, NULL, NULL, NULL},
};

static const char *const switch_choices[] = {"off", "on", NULL};
static int				 calls;

static const OutboxHandler *
make_handlers(void)
{
	hazard_handlers[0].call_out = calls ? &hazard_call : NULL;
	return hazard_handlers;
}

static const OutboxOption hazard_options[] = {
	{.name = "calls",
	 .kind = OUTBOX_OPTION_CHOICE,
	 .variable = &calls,
	 .initial = "off",
	 .choices = switch_choices,
	 .text = "calls out"},
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
	.make_handlers = make_handlers,
	.options = hazard_options,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &hazard_service);
}
