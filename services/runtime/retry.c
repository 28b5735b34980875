/* SPDX-License-Identifier: PostgreSQL
 *
 * retry.c
 *	  Tries the rows of outbox.dead_letter again that are due.
 *
 * Runs in the services, member threads.  Any member of the consumer takes any row of its topics
 * (SKIP LOCKED); the state is in the table, so a crash loses nothing.  What is held behind a row
 * that is due for the first time follows in the same transaction (retry_run.c); more of it each
 * time, as long as all goes well.  When a row fails, what was before it is run again without it;
 * then it is first.  After its failure the next try is noted, or the dead letter is published; a
 * row that has to wait, or that this program has no handler for, is put back for later and stops no
 * other row.  A row whose handler calls out is tried alone, when its call has ended (retry_call.c).
 */
#define _GNU_SOURCE
#include "retry.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "breaker.h"
#include "crash.h"
#include "dead_letter.h"
#include "item.h"
#include "member_breaker.h"
#include "record_log.h"
#include "retry_call.h"
#include "retry_run.h"
#include "service_metrics.h"
#include "settings.h"
#include "trace.h"
#include "trouble_plan.h"
#include "services/lib/backoff.h"
#include "services/lib/bytea.h"
#include "services/lib/clock.h"
#include "services/lib/db_session.h"
#include "services/lib/text.h"

#define LOOK_AGAIN_MS	  2000 /* for rows another member has left */
#define NEXT_ROW_MS		  100  /* after a row that has to wait */
#define CALL_LATER_MS	  100  /* until a row is called for that was not to be now */
#define PREPARE_BUDGET_MS 1000
#define FAILED_VALUES	  9
/* after a longer one the next is shorter: new records wait meanwhile */
#define SLOW_RUN_MS		  200

static const char put_back_sql[] = "SELECT outbox.dead_letter_put_back($1::bigint, $2::integer)";
static const char troubled_sql[] = "SELECT outbox.dead_letter_troubled($1::bigint, $2, "
								   "outbox.wire_text($3::bytea, 1023), $4::boolean, $5::bigint)";
static const char failed_sql[] =
	"SELECT state, outbox.dead_letter_unpublished($1::bigint)"
	" FROM outbox.dead_letter_failed($1::bigint, $2::integer, $3::boolean, $4::integer,"
	" $5::integer, $6, $7, outbox.wire_text($8::bytea, 1023), $9::boolean) state";

/* Runs a statement whose answer says nothing. */
static bool
run_statement(OutboxDb *db, const char *sql, int count, const char *const *values)
{
	PGresult *result = outbox_db_query(db, sql, count, values);
	bool	  good = result != NULL;

	PQclear(result);
	return good;
}

/*
 * Takes the answer of failed_sql: the row's state, "" when somebody else has dealt with it, and
 * unpublished.
 */
static bool
run_failed(OutboxMember *member, OutboxItem *item, const char *const *values, char *state,
		   size_t size)
{
	PGresult *result = NULL;

	if (outbox_db_connect(&member->db))
		result = outbox_db_query(&member->db, failed_sql, FAILED_VALUES, values);
	if (result == NULL)
		return false;
	snprintf(state, size, "%s", PQntuples(result) > 0 ? PQgetvalue(result, 0, 0) : "");
	outbox_text_copy(item->unpublished, sizeof(item->unpublished),
					 PQntuples(result) > 0 ? PQgetvalue(result, 0, 1) : "");
	PQclear(result);
	return true;
}

/* Notes the failed try of the first row; false: the database is away. */
static bool
note_failure(OutboxMember *member, DueRun *run, const OutboxError *error)
{
	DueRow	   *row = &run->rows[0];
	char		retry_max[16];
	char		backoff[24];
	char		state[16];
	char	   *message = outbox_bytea_of_text(error->message);
	bool		good;
	const char *values[FAILED_VALUES] = {
		row->id,
		run->attempts,
		error->failure == OUTBOX_FAILURE_RECORD ? "f" : "t",
		retry_max,
		backoff,
		outbox_failure_name(error->failure),
		error->sqlstate[0] != '\0' ? error->sqlstate : NULL,
		message,
		outbox_settings.dlt_headers == OUTBOX_HEADERS_SPRING ? "t" : "f",
	};

	snprintf(retry_max, sizeof(retry_max), "%d", outbox_settings.retry_max);
	snprintf(backoff, sizeof(backoff), "%ld", outbox_dead_letter_backoff(atoi(run->attempts) + 1));
	good = run_failed(member, &row->item, values, state, sizeof(state));
	free(message);
	if (good && state[0] != '\0')
	{
		outbox_span_end_process(&row->item.span, outbox_settings.group_id, &row->item.record,
								error);
		outbox_dead_letter_report(member, &row->item.record, state, error, row->item.unpublished,
								  row->failing_ms);
	}
	return good;
}

/* What is needed is away: the row waits, and when the connection is lost the member with it. */
static void
wait_longer(OutboxMember *member, DueRun *run, const OutboxError *error)
{
	int64_t pause = outbox_backoff(&member->random_state, ++member->retry_failures);
	bool	connected = member->db.conn != NULL && PQstatus(member->db.conn) == CONNECTION_OK;

	member->retry_at = outbox_clock_ms() + (connected && run != NULL ? NEXT_ROW_MS : pause);
	if (run != NULL && run->later_ms == 0)
		run->later_ms = pause;
	outbox_count_failure(error->failure);
	outbox_log_record(error->failure == OUTBOX_FAILURE_DEPLOY ? OUTBOX_LOG_ERROR :
																OUTBOX_LOG_WARNING,
					  "retry_postponed", run != NULL ? &run->rows[0].item.record : NULL, "%s",
					  error->message);
}

static void
note_success(OutboxMember *member, const OutboxItem *item)
{
	if (item->claim == OUTBOX_CLAIM_NEW)
	{
		outbox_span_end_process(&item->span, outbox_settings.group_id, &item->record, NULL);
		outbox_count_outcome(item);
		outbox_breaker_record_done(member);
	}
	else
		outbox_count_record(item->record.topic, "duplicate");
	outbox_log_record(OUTBOX_LOG_INFO, "retry_done", &item->record, "outcome %s", item->outcome);
}

/* Has the first row failed so often, and for so long? */
static bool
is_overdue(const DueRun *run, int troubles)
{
	return troubles >= OUTBOX_TROUBLE_TRIES &&
		run->trouble_ms >= 1000 * outbox_settings.crash_after_seconds;
}

/*
 * Fills verdict and call of the first row, or the error of one that ends the process or its
 * session.
 */
static void
prepare_first(OutboxMember *member, DueRun *run, OutboxError *error)
{
	OutboxItem *item = &run->rows[0].item;
	bool		crashed = run->crashes >= outbox_settings.crash_max;

	if (crashed || (run->ends >= OUTBOX_TROUBLE_TRIES && is_overdue(run, run->troubles)))
	{
		if (crashed)
			outbox_crash_error(error, run->crashes);
		else
			outbox_trouble_error(error, &run->last, run->troubles, run->trouble_ms);
		outbox_span_begin_record(&item->span, &item->record);
		item->verdict = OUTBOX_VERDICT_REJECT;
		return;
	}
	outbox_item_prepare(member, item);
	*error = item->call.error;
}

/* How many rows go into the transaction: up to one that is no call.  The first is one. */
static int
prepare_behind(OutboxMember *member, DueRun *run)
{
	int64_t deadline = outbox_clock_ms() + PREPARE_BUDGET_MS;
	int		count = 1;

	while (count < run->count && outbox_clock_ms() < deadline)
	{
		outbox_item_prepare(member, &run->rows[count].item);
		if (run->rows[count].item.verdict != OUTBOX_VERDICT_CALL ||
			run->rows[count].item.handler->call_out != NULL)
			break;
		count++;
	}
	return count;
}

/* How many rows may be tried together. */
static int
choose_most(const OutboxMember *member)
{
	if (member->run_singly > 0 ||
		outbox_breaker_state(&member->runtime->breaker) != OUTBOX_BREAKER_CLOSED)
		return 1;
	return member->run_limit > 0 ? member->run_limit : 1;
}

/* All went well: more the next time. */
static void
note_run(OutboxMember *member, DueRun *run, int count, int done, int64_t took_ms)
{
	for (int i = 0; i < done; i++)
		note_success(member, &run->rows[i].item);
	member->run_singly -= member->run_singly > done ? done : member->run_singly;
	if (took_ms > SLOW_RUN_MS)
		member->run_limit = (int) (count * SLOW_RUN_MS / took_ms) + 1;
	else if (member->run_limit < 2 * count)
		member->run_limit = 2 * count < OUTBOX_RUN_MAX ? 2 * count : OUTBOX_RUN_MAX;
}

/*
 * The first row's call has failed with what is waited for.  true: often and long enough, while the
 * database has worked for others; *error is class crash then.  Else it is noted; sets later_ms.
 */
static bool
note_trouble(OutboxMember *member, DueRun *run, int64_t started, OutboxError *error)
{
	OutboxError last = *error;
	char		tried_ms[24];
	char	   *message;
	int64_t		backoff = outbox_backoff(&member->random_state, (unsigned) run->troubles + 1);

	if (!outbox_trouble_counts(error))
		return false;
	if (!error->ended && is_overdue(run, run->troubles + 1) &&
		(!run->alike ||
		 outbox_breaker_success_at(&member->runtime->breaker) >
			 outbox_clock_ms() - run->troubled_ms))
	{
		outbox_trouble_error(error, &last, run->troubles + 1, run->trouble_ms);
		return true;
	}
	snprintf(tried_ms, sizeof(tried_ms), "%" PRId64, outbox_clock_ms() - started);
	message = outbox_bytea_of_text(error->message);
	if (outbox_db_connect(&member->db))
		run_statement(&member->db, troubled_sql, 5,
					  (const char *const[]) {run->rows[0].id,
											 error->sqlstate[0] != '\0' ? error->sqlstate : NULL,
											 message, error->ended ? "t" : "f", tried_ms});
	free(message);
	run->later_ms = !error->ended && is_overdue(run, run->troubles + 1) ?
		backoff :
		outbox_trouble_pause(run->troubles + 1, run->trouble_ms, error->ended, backoff,
							 1000 * outbox_settings.crash_after_seconds,
							 (unsigned) rand_r(&member->random_state));
	run->troubles++;
	return false;
}

/*
 * The transaction of `count` rows has failed, begun: in its calls.  true: for the sake of a later
 * row, what is due is tried again without it.
 */
static bool
split_run(OutboxMember *member, int count, int culprit, bool begun)
{
	const OutboxError *error = &member->db.error;

	if (!begun || count == 1)
		return false;
	if (error->ended || culprit < 0)
	{
		member->run_singly = count;
		return error->failure != OUTBOX_FAILURE_INFRASTRUCTURE &&
			error->failure != OUTBOX_FAILURE_DEPLOY;
	}
	if (culprit == 0)
		return false;
	member->run_limit = culprit;
	return true;
}

/*
 * Runs the first row's call, and those behind it.  false: what is needed is away, or *failed: the
 * first row's call has.
 */
static bool
try_calls(OutboxMember *member, DueRun *run, OutboxError *error, bool *failed)
{
	int		count = run->rows[0].item.handler->call_out != NULL ? 1 : prepare_behind(member, run);
	int64_t started = outbox_clock_ms();
	int		done;
	int		culprit;
	bool	begun;

	*failed = false;
	if (outbox_run_try(member, run, count, &done, &culprit, &begun))
	{
		note_run(member, run, count, done, outbox_clock_ms() - started);
		return true;
	}
	*error = member->db.error;
	if (split_run(member, count, culprit, begun))
		return true;
	if (error->failure == OUTBOX_FAILURE_INFRASTRUCTURE || error->failure == OUTBOX_FAILURE_DEPLOY)
	{
		if (error->failure == OUTBOX_FAILURE_DEPLOY || !begun ||
			(count > 1 && (culprit != 0 || error->ended)) ||
			!note_trouble(member, run, started, error))
			return false;
	}
	*failed = true;
	return false;
}

/*
 * One try of what is due, whose first row is decoded and called for.  false: what is needed is
 * away, error says what.
 */
static bool
try_run(OutboxMember *member, DueRun *run, OutboxError *error)
{
	OutboxItem *item = &run->rows[0].item;
	bool		failed;

	if (item->verdict == OUTBOX_VERDICT_WAIT)
		return false;
	if (item->verdict == OUTBOX_VERDICT_IGNORE)
	{
		/* for a member that has a handler, perhaps of a later version */
		run->later_ms = LOOK_AGAIN_MS;
		return true;
	}
	if (item->verdict == OUTBOX_VERDICT_CALL)
	{
		if (try_calls(member, run, error, &failed))
			return true;
		if (!failed)
			return false;
	}
	if (outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_TRYING)
	{
		outbox_breaker_record_failed(member, &item->record, error);
		return true;
	}
	if (note_failure(member, run, error))
		return true;
	*error = member->db.error;
	return false;
}

/* Ends what outbox_run_fetch began; when the database is away, at the next turn. */
static bool
put_back(OutboxMember *member, int64_t later_ms)
{
	char		delay[24];
	const char *values[2] = {member->taken_row, delay};

	if (member->taken_row[0] == '\0')
		return true;
	snprintf(delay, sizeof(delay), "%" PRId64, later_ms);
	if (!outbox_db_connect(&member->db) || !run_statement(&member->db, put_back_sql, 2, values))
		return false;
	member->taken_row[0] = '\0';
	return true;
}

/* Tries the run, and ends what outbox_run_fetch began. */
static void
finish_run(OutboxMember *member, DueRun *run)
{
	OutboxError error = run->rows[0].item.call.error;

	if (try_run(member, run, &error))
	{
		member->retry_failures = 0;
		member->retry_at = outbox_clock_ms();
	}
	else
		wait_longer(member, run, &error);
	put_back(member, run->later_ms);
	if (run->troubles > 0)
		outbox_db_renew(&member->db); /* each try of such a row is made in a session of its own */
}

/* Begins the first row's call.  true: the run is the call's, or is put back. */
static bool
begin_call(OutboxMember *member, DueRun *run)
{
	OutboxError error;

	switch (outbox_retry_call_begin(member, run, &error))
	{
		case OUTBOX_RETRY_BEGUN:
			member->taken_row[0] = '\0';
			member->retry_at = outbox_clock_ms();
			return true;
		case OUTBOX_RETRY_LATER:
			member->retry_at = outbox_clock_ms() + CALL_LATER_MS;
			put_back(member, CALL_LATER_MS);
			break;
		case OUTBOX_RETRY_AWAY:
			wait_longer(member, run, &error);
			put_back(member, run->later_ms);
			break;
		default:
			return false;
	}
	outbox_run_free(run);
	return true;
}

void
outbox_retry_take_answers(OutboxMember *member)
{
	OutboxRetryCall *call;

	while (member->retry_call_count > 0 && put_back(member, 0) &&
		   (call = outbox_retry_call_take(member)) != NULL)
	{
		snprintf(member->taken_row, sizeof(member->taken_row), "%s", call->run.rows[0].id);
		finish_run(member, &call->run);
		outbox_retry_call_free(call);
	}
}

void
outbox_retry_leave(OutboxMember *member)
{
	put_back(member, 0);
	for (OutboxRetryCall *call = member->retry_calls; call != NULL; call = call->next)
	{
		snprintf(member->taken_row, sizeof(member->taken_row), "%s", call->run.rows[0].id);
		put_back(member, 0);
	}
}

static bool
fetch_run(OutboxMember *member, DueRun *run, int64_t *wait_ms, bool *error)
{
	char *in_hand = outbox_retry_calls_list(member);
	bool  due = outbox_run_fetch(member, choose_most(member), in_hand, run, wait_ms, error);

	free(in_hand);
	return due;
}

void
outbox_retry_run(OutboxMember *member)
{
	DueRun		run;
	OutboxError error;
	int64_t		wait_ms = LOOK_AGAIN_MS;
	bool		failed;

	if (!put_back(member, 0))
	{
		wait_longer(member, NULL, &member->db.error);
		return;
	}
	if (!fetch_run(member, &run, &wait_ms, &failed))
	{
		if (failed)
			wait_longer(member, NULL, &member->db.error);
		else
		{
			member->retry_failures = 0;
			member->retry_at =
				outbox_clock_ms() + (wait_ms < LOOK_AGAIN_MS ? wait_ms : LOOK_AGAIN_MS);
		}
		return;
	}
	snprintf(member->taken_row, sizeof(member->taken_row), "%s", run.rows[0].id);
	if (run.crashes > 0)
		member->run_singly = OUTBOX_RUN_MAX; /* it may have been one behind it */
	prepare_first(member, &run, &error);
	run.rows[0].item.call.error = error;
	if (outbox_retry_calls_out(&run) && begin_call(member, &run))
		return;
	finish_run(member, &run);
	outbox_run_free(&run);
}
