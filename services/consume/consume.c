/* SPDX-License-Identifier: PostgreSQL
 *
 * consume.c
 *	  outbox-consume: a consumer made of settings and one SQL function.
 *
 * Runs in outbox-consume.  The function does the work, in the transaction of
 * the batch; extension/47-consumed.sql describes its argument.
 */
#include <stdio.h>
#include <string.h>

#include "consume.h"

/* Written by make_handlers, before the threads start. */
static const char *call_sql;
static bool		   as_bytes;

static bool check_format(const char *value, char *error, size_t size);

static const OutboxOption consume_options[] = {
	{"topics", OUTBOX_OPTION_TEXT, NULL, 0, 0,
	 "topics, and topic:EventType for one type of a topic; with commas", consume_check_topics},
	{"function", OUTBOX_OPTION_QUOTED, NULL, 0, 0,
	 "schema.function, f(outbox.consumed_event) returns text", consume_check_function},
	{"value_format", OUTBOX_OPTION_TEXT, "json", 0, 0,
	 "json, or bytes for f(outbox.consumed_bytes)", check_format},
	{NULL, OUTBOX_OPTION_TEXT, NULL, 0, 0, NULL, NULL},
};

static bool
check_format(const char *value, char *error, size_t size)
{
	if (strcmp(value, "json") == 0 || strcmp(value, "bytes") == 0)
		return true;
	snprintf(error, size, "neither json nor bytes");
	return false;
}

static OutboxVerdict
decode_event(const OutboxRecord *record, OutboxCall *call)
{
	outbox_call_begin(call, call_sql);
	return consume_add_event(record, as_bytes, call) ? OUTBOX_VERDICT_CALL : OUTBOX_VERDICT_REJECT;
}

static const OutboxHandler *
make_handlers(const OutboxConfig *config)
{
	const char *function = outbox_config_text(config, "function");

	as_bytes = strcmp(outbox_config_text(config, "value_format"), "bytes") == 0;
	if (!consume_check_database(outbox_config_text(config, "database"), function, as_bytes))
		return NULL;
	call_sql = consume_make_sql(function, as_bytes);
	return consume_make_handlers(outbox_config_text(config, "topics"), decode_event);
}

static const OutboxService consume_service = {
	.name = "outbox-consume",
	.summary = "calls an SQL function with each event of some topics",
	.options = consume_options,
	.make_handlers = make_handlers,
};

int
main(int argc, char **argv)
{
	return outbox_service_main(argc, argv, &consume_service);
}
