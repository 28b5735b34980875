/* SPDX-License-Identifier: PostgreSQL
 *
 * context.c
 *	  A handler's call as the server gets it: with the record's flow and trace, so
 *	  that what the handler emits belongs to them.
 *
 * Runs in the services, member threads.  A condition that is always true sets the
 * context in the call's own statement: a statement of its own costs a tenth of what
 * a small handler does.
 */
#define _GNU_SOURCE
#include "context.h"

#include <stdio.h>
#include <stdlib.h>

#include "trace.h"
#include "services/lib/bytea.h"

#define CONTEXT_VALUES 3

/*
 * The call's statement, known by its address as long as the member lives; NULL: too many different
 * ones.
 */
static const char *
find_statement(OutboxMember *member, const OutboxCall *call)
{
	OutboxStatement *statement = member->statements;

	for (; statement < member->statements + member->statement_count; statement++)
	{
		if (statement->sql == call->sql && statement->count == call->count)
			return statement->text;
	}
	if (member->statement_count == OUTBOX_DB_STATEMENTS)
		return NULL;
	if (asprintf(&statement->text,
				 "%s WHERE outbox.set_context(outbox.wire_text($%d::bytea, 256), $%d, $%d)",
				 call->sql, call->count + 1, call->count + 2, call->count + 3) < 0)
		abort(); /* nothing is committed, the record is read again */
	statement->sql = call->sql;
	statement->count = call->count;
	member->statement_count++;
	return statement->text;
}

bool
outbox_context_prepare(OutboxMember *member, const OutboxCall *call)
{
	const char *statement = find_statement(member, call);

	if (statement != NULL)
		return outbox_db_prepare(&member->db, statement);
	outbox_error_set(&member->db.error, OUTBOX_FAILURE_DEPLOY, NULL,
					 "too many different statements");
	return false;
}

bool
outbox_context_send(OutboxMember *member, const OutboxItem *item)
{
	const char *values[OUTBOX_CALL_VALUES + CONTEXT_VALUES];
	char	   *correlation_id = outbox_bytea_of_text(item->record.correlation_id);
	int			count = item->call.count;
	bool		sent;

	for (int i = 0; i < count; i++)
		values[i] = item->call.values[i];
	values[count++] = correlation_id;
	values[count++] = outbox_span_traceparent(&item->span, item->record.traceparent);
	values[count++] = item->record.tracestate;
	sent = outbox_db_send(&member->db, find_statement(member, &item->call), count, values);
	free(correlation_id);
	return sent;
}
