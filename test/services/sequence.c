/* SPDX-License-Identifier: PostgreSQL
 *
 * sequence.c
 *	  outbox-sequence: a consumer of the checker's load that notes each event's
 *	  rank among those of its key, and fails when it is not the next one.
 *
 * Built for test/e2e/test_consumer_order.py on the real runtime, never installed.
 */
#include "services/runtime/service.h"

static const char take_sql[] = "SELECT sequence.take($1, $2, $3::jsonb, $4::uuid)";

/* A setting, written before the threads start. */
static const char *instance;

static OutboxVerdict
decode_checked(const OutboxRecord *record, OutboxCall *call)
{
	json_t		 *event = outbox_decode_object(record, call);
	OutboxVerdict verdict = OUTBOX_VERDICT_REJECT;

	if (event != NULL && outbox_decode_require(event, "keySeq", JSON_INTEGER, call))
	{
		outbox_call_begin(call, take_sql);
		outbox_call_add_text(call, instance);
		outbox_call_add(call, (const char *) record->key, record->key_len);
		outbox_call_add(call, (const char *) record->value, record->value_len);
		outbox_call_add_text(call, record->event_id);
		verdict = OUTBOX_VERDICT_CALL;
	}
	json_decref(event);
	return verdict;
}

/* The topic's name is a setting: each run of the test has its own. */
static OutboxHandler sequence_handlers[] = {
	{"", "Checked", decode_checked, NULL},
	{NULL, NULL, NULL, NULL},
};

static const OutboxOption sequence_options[] = {
	{.name = "topic",
	 .kind = OUTBOX_OPTION_TEXT,
	 .variable = &sequence_handlers[0].topic,
	 .text = "topic of the load"},
	{.name = "instance",
	 .kind = OUTBOX_OPTION_TEXT,
	 .variable = &instance,
	 .text = "name of this process in sequence.taken"},
	{.name = NULL},
};

static const OutboxService sequence_service = {
	.name = "outbox-sequence",
	.summary = "checks the order of the events of each key",
	.group = "sequence",
	.http_port = "8189",
	.handlers = sequence_handlers,
	.options = sequence_options,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &sequence_service);
}
