/* SPDX-License-Identifier: PostgreSQL
 *
 * retry_call.c
 *	  Calls for rows of outbox.dead_letter that are tried again.
 *
 * Runs in the services, member threads; the calls themselves run on the pool's.
 */
#define _GNU_SOURCE
#include "retry_call.h"

#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "service_metrics.h"
#include "settings.h"
#include "services/lib/array_text.h"
#include "services/lib/clock.h"

bool
outbox_retry_calls_out(const DueRun *run)
{
	const OutboxItem *item = &run->rows[0].item;

	return item->verdict == OUTBOX_VERDICT_CALL && item->handler->call_out != NULL;
}

bool
outbox_retry_has_room(const OutboxMember *member)
{
	return member->retry_call_count == 0 ||
		member->retry_call_count < outbox_settings.calls_max / 2;
}

/* A thread of the pool. */
static void
run_call(OutboxCallJob *job)
{
	OutboxRetryCall *call = (OutboxRetryCall *) job;
	OutboxItem		*item = &call->run.rows[0].item;

	item->verdict = item->handler->call_out->run(&item->record, call->told, &item->call);
}

/* What the handler asks first, in *told.  false: there is nothing to call for, or no answer. */
static bool
ask(OutboxMember *member, DueRun *run, char **told, OutboxRetryBegun *begun, OutboxError *error)
{
	OutboxItem *item = &run->rows[0].item;
	bool		processed = false;

	*told = NULL;
	if (outbox_judge_letter(member, run->rows[0].id, item, &processed) &&
		(processed || outbox_judge_ask_item(member, item, told)))
	{
		*begun = OUTBOX_RETRY_ANSWERED;
		return !processed;
	}
	*error = member->db.error;
	if (error->failure == OUTBOX_FAILURE_INFRASTRUCTURE || error->failure == OUTBOX_FAILURE_DEPLOY)
		*begun = OUTBOX_RETRY_AWAY;
	else
	{
		item->call.error = *error;
		item->verdict =
			error->failure == OUTBOX_FAILURE_RECORD ? OUTBOX_VERDICT_FAIL : OUTBOX_VERDICT_REJECT;
		*begun = OUTBOX_RETRY_ANSWERED;
	}
	return false;
}

OutboxRetryBegun
outbox_retry_call_begin(OutboxMember *member, DueRun *run, OutboxError *error)
{
	OutboxRuntime	*runtime = member->runtime;
	bool			 alone = run->crashes > 0;
	OutboxRetryCall *call;
	OutboxRetryBegun begun;
	char			*told;

	if (!ask(member, run, &told, &begun, error))
		return begun;
	call = calloc(1, sizeof(*call));
	if (call == NULL)
		abort(); /* the row is tried again */
	if (!outbox_call_gate_enter(&runtime->gate, alone, outbox_clock_ms()))
	{
		free(told);
		free(call);
		return OUTBOX_RETRY_LATER;
	}
	*call = (OutboxRetryCall) {.job = {.run = run_call, .answers = &member->retry_answers},
							   .run = *run,
							   .told = told,
							   .alone = alone,
							   .next = member->retry_calls};
	if (!outbox_call_pool_push(runtime->pool, &call->job))
	{
		outbox_call_gate_leave(&runtime->gate, alone);
		free(told);
		free(call);
		return OUTBOX_RETRY_LATER;
	}
	member->retry_calls = call;
	member->retry_call_count++;
	return OUTBOX_RETRY_BEGUN;
}

OutboxRetryCall *
outbox_retry_call_take(OutboxMember *member)
{
	OutboxRetryCall	 *call = (OutboxRetryCall *) outbox_call_queue_take(&member->retry_answers);
	OutboxRetryCall **link = &member->retry_calls;

	if (call == NULL)
		return NULL;
	outbox_call_gate_leave(&member->runtime->gate, call->alone);
	while (*link != call)
		link = &(*link)->next;
	*link = call->next;
	member->retry_call_count--;
	outbox_observe_call(&call->run.rows[0].item, (double) call->job.took_ms / 1000);
	return call;
}

void
outbox_retry_call_free(OutboxRetryCall *call)
{
	outbox_run_free(&call->run);
	free(call->told);
	free(call);
}

char *
outbox_retry_calls_list(const OutboxMember *member)
{
	OutboxArrayText ids;

	outbox_array_begin(&ids);
	for (const OutboxRetryCall *call = member->retry_calls; call != NULL; call = call->next)
		outbox_array_add_text(&ids, call->run.rows[0].id);
	outbox_array_finish(&ids);
	return ids.text;
}
