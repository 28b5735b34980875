/* SPDX-License-Identifier: PostgreSQL
 *
 * context.c
 *	  outbox.set_context: flow and trace of what the rest of a transaction emits.
 *
 * Runs in the backends of consumers, as the caller.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#include "guc.h"

PG_FUNCTION_INFO_V1(outbox_set_context);

/* SET LOCAL name = value unless it has that value; the caller may not do more than with SET. */
static void
set_local(const char *name, const char *current, FunctionCallInfo fcinfo, int argument)
{
	const char *value = PG_ARGISNULL(argument) ? "" : text_to_cstring(PG_GETARG_TEXT_PP(argument));

	if (strcmp(current, value) != 0)
		(void) set_config_option(name, value, PGC_USERSET, PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
}

/* set_context(correlation_id text, traceparent text, tracestate text) returns boolean: true */
Datum
outbox_set_context(PG_FUNCTION_ARGS)
{
	set_local("outbox.correlation_id", outbox_guc_correlation_id, fcinfo, 0);
	set_local("outbox.traceparent", outbox_guc_traceparent, fcinfo, 1);
	set_local("outbox.tracestate", outbox_guc_tracestate, fcinfo, 2);
	PG_RETURN_BOOL(true);
}
