/* SPDX-License-Identifier: PostgreSQL
 *
 * consume.c
 *	  outbox-consume: a consumer made of settings and one SQL function.
 *
 * Runs in outbox-consume.  The function does the work, in the transaction of
 * the batch; extension/47-consumed.sql describes its argument.
 */

#include "event.h"
#include "function.h"
#include "topics.h"
#include "services/runtime/service.h"
#include "services/runtime/settings.h"

/* value_format */
enum
{
	FORMAT_JSON,
	FORMAT_BYTES,
};

static const char *const format_choices[] = {"json", "bytes", NULL};

/* Settings; written before the threads start, as call_sql is. */
static const char *topics;
static const char *function;
static int		   value_format;
static const char *call_sql;

static const OutboxOption consume_options[] = {
	{.name = "topics",
	 .kind = OUTBOX_OPTION_TEXT,
	 .variable = &topics,
	 .check = consume_check_topics,
	 .text = "topics, and `topic:EventType` for one type of a topic, with commas"},
	{.name = "function",
	 .kind = OUTBOX_OPTION_QUOTED,
	 .variable = &function,
	 .check = consume_check_function,
	 .text = "`schema.function`, which takes `outbox.consumed_event` and returns text"},
	{.name = "value_format",
	 .kind = OUTBOX_OPTION_CHOICE,
	 .variable = &value_format,
	 .initial = "json",
	 .choices = format_choices,
	 .text = "of key and value; for bytes the function takes `outbox.consumed_bytes`"},
	{.name = NULL},
};

static OutboxVerdict
decode_event(const OutboxRecord *record, OutboxCall *call)
{
	outbox_call_begin(call, call_sql);
	return consume_add_event(record, value_format == FORMAT_BYTES, call) ? OUTBOX_VERDICT_CALL :
																		   OUTBOX_VERDICT_REJECT;
}

static const OutboxHandler *
make_handlers(void)
{
	bool bytes = value_format == FORMAT_BYTES;

	if (!consume_check_database(outbox_settings.database, function, bytes))
		return NULL;
	call_sql = consume_make_sql(function, bytes);
	return consume_make_handlers(topics, decode_event);
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
