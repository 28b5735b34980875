/* SPDX-License-Identifier: PostgreSQL
 *
 * process.c
 *	  What to do with the records in hand: as one batch, in parts after a
 *	  failure, later when the database is away.
 *
 * Runs in the services, member threads.
 */
#include "process.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "batch.h"
#include "breaker.h"
#include "consumer.h"
#include "consumer_log.h"
#include "crash.h"
#include "dead_letter.h"
#include "item.h"
#include "member_breaker.h"
#include "record_log.h"
#include "service_metrics.h"
#include "settings.h"
#include "trace.h"
#include "trouble.h"
#include "window.h"
#include "services/lib/backoff.h"
#include "services/lib/clock.h"

#define CAUTION_RECORDS 2000 /* run with savepoints after a record has failed in a batch */

/* The records in hand still to do, without those of partitions no longer worked on. */
static int
collect_items(OutboxMember *member, OutboxItem **items)
{
	int count = 0;

	for (int i = 0; i < member->in_hand_count; i++)
	{
		OutboxItem *item = member->in_hand[i];

		if (item->record.source->active && !item->done && !item->again)
			items[count++] = item;
	}
	return count;
}

static void
suspend_items(OutboxMember *member, OutboxItem **items, int count, bool halt, bool forget)
{
	for (int i = 0; i < count; i++)
	{
		OutboxPartition *partition = items[i]->record.source;

		if (!partition->active)
			continue;
		partition->failures++;
		partition->halted = halt;
		if (forget)
			outbox_consumer_forget(partition);
		outbox_consumer_suspend(member->consumer, partition,
								outbox_clock_ms() +
									outbox_backoff(&member->random_state, partition->failures));
	}
}

/* A record is traced that was to be processed now, whatever became of it. */
static void
end_span(OutboxItem *item)
{
	bool called = item->verdict == OUTBOX_VERDICT_CALL;

	if (item->claim != OUTBOX_CLAIM_NEW || item->verdict == OUTBOX_VERDICT_IGNORE)
		return;
	if (item->span.started_ns == 0)
		/* condemned before it was looked at */
		outbox_span_begin_record(&item->span, &item->record);
	outbox_span_end_process(&item->span, outbox_settings.group_id, &item->record,
							called ? NULL : &item->call.error);
}

/* After the commit of records that are done in the order of their offsets. */
static void
pass_record(const OutboxRecord *record)
{
	OutboxPartition *partition = record->source;

	partition->next = record->offset + 1;
	if (partition->watermark < partition->next)
	{
		partition->watermark = partition->next;
		partition->alone -= partition->alone > 0; /* not spent on what is read twice */
		partition->trouble.singly -= partition->trouble.singly > 0;
	}
}

/* The same of the window's: a partition goes on only when those before are done, too. */
static void
pass_window(OutboxMember *member, OutboxPartition *partition)
{
	OutboxWindowEnd end;

	outbox_window_end(member->window, partition, &end);
	if (partition->watermark < end.next)
		partition->watermark = end.next;
	if (!end.moved)
		return;
	partition->next = end.next;
	outbox_log_note_anchor(partition, &end.last);
}

/* After the commit: offsets may be stored, results are counted. */
static void
note_done(OutboxMember *member, OutboxItem **items, int count)
{
	/* From the end: of each partition the last one alone is looked at. */
	for (int i = count - 1; i >= 0 && !items[i]->in_window; i--)
		outbox_log_note_done(items[i]->record.source, &items[i]->record);
	for (int i = 0; i < count; i++)
	{
		OutboxItem		*item = items[i];
		OutboxPartition *partition = item->record.source;
		const char		*state;

		item->done = true;
		if (!item->in_window)
			pass_record(&item->record);
		else
			partition->trouble.singly -= partition->trouble.singly > 0;
		partition->store_due = true;
		partition->failures = 0;
		partition->halted = false;
		end_span(item);
		if (item->claim == OUTBOX_CLAIM_DUPLICATE || item->known)
			outbox_count_record(item->record.topic, "duplicate");
		else if (item->claim == OUTBOX_CLAIM_NEW && item->verdict == OUTBOX_VERDICT_IGNORE)
			outbox_count_record(item->record.topic, item->foreign ? "foreign_replay" : "ignored");
		else if (item->claim == OUTBOX_CLAIM_NEW && item->verdict == OUTBOX_VERDICT_CALL)
		{
			outbox_count_outcome(item);
			outbox_breaker_record_done(member);
		}
		else
		{
			state = outbox_dead_letter_state(item);
			outbox_dead_letter_report(member, &item->record, state, &item->call.error,
									  item->unpublished, 0);
			if (strcmp(state, "retrying") == 0 &&
				outbox_clock_ms() + outbox_settings.retry_backoff_ms < member->retry_at)
				member->retry_at = outbox_clock_ms() + outbox_settings.retry_backoff_ms;
		}
	}
}

/* What the records in hand still ask for; one call of outbox_process_items. */
typedef struct Work
{
	OutboxItem **items; /* to do, in order */
	int			 count;
	OutboxItem	*alone;	  /* failed in a batch: run it alone */
	int			 singles; /* as many next ones are run one by one */
} Work;

static bool
is_refused(const OutboxItem *item)
{
	return item->verdict == OUTBOX_VERDICT_REJECT || item->verdict == OUTBOX_VERDICT_FAIL;
}

/*
 * Would the item pass an earlier one of its key that becomes a dead letter in the same transaction?
 */
static bool
passes_dead_letter(OutboxItem **items, int index)
{
	const OutboxRecord *record = &items[index]->record;

	for (int i = 0; i < index; i++)
	{
		const OutboxRecord *earlier = &items[i]->record;

		if (is_refused(items[i]) && earlier->key != NULL && record->key != NULL &&
			earlier->key_len == record->key_len &&
			memcmp(earlier->key, record->key, record->key_len) == 0 &&
			strcmp(earlier->topic, record->topic) == 0)
			return true;
	}
	return false;
}

/*
 * How many of the first `count` items go into the next transaction: up to one that has to
 * wait or must come first, the dead letter that opens the breaker, or what outbox.begin_batch
 * must see behind one.  Decodes them.  0: the first has to wait.
 */
static int
prepare_items(OutboxMember *member, Work *work, int count)
{
	int	 room = outbox_breaker_room(&member->runtime->breaker);
	bool dead_letters = false;

	for (int i = 0; i < count; i++)
	{
		OutboxItem *item = work->items[i];

		if (!item->prepared)
			outbox_item_prepare(member, item);
		if (item->verdict == OUTBOX_VERDICT_WAIT)
			return i;
		if (item->verdict == OUTBOX_VERDICT_FAIL && i > 0)
			return i;
		if (dead_letters && outbox_settings.dlt_order == OUTBOX_ORDER_HOLD &&
			item->verdict != OUTBOX_VERDICT_IGNORE && passes_dead_letter(work->items, i))
			return i;
		if (is_refused(item) && strcmp(outbox_dead_letter_state(item), "open") == 0 && --room == 0)
			return i + 1;
		dead_letters = dead_letters || is_refused(item);
	}
	return count;
}

/* A record has failed: it becomes a dead letter, to be retried or not, in the next transaction. */
static void
condemn_item(OutboxItem *item, const OutboxError *error)
{
	item->call.error = *error;
	item->verdict =
		error->failure == OUTBOX_FAILURE_RECORD ? OUTBOX_VERDICT_FAIL : OUTBOX_VERDICT_REJECT;
}

static void
wait_for_infrastructure(OutboxMember *member, Work *work, const OutboxError *error)
{
	outbox_count_failure(OUTBOX_FAILURE_INFRASTRUCTURE);
	outbox_log_record(OUTBOX_LOG_WARNING, "waiting", &work->items[0]->record, "%s%s%s",
					  error->message, error->sqlstate[0] != '\0' ? ", SQLSTATE " : "",
					  error->sqlstate);
	suspend_items(member, work->items, work->count, false, false);
}

/*
 * The record that has failed waits with its partition; the database's failure is waited for by all.
 */
static void
wait_for_item(OutboxMember *member, Work *work, int count, int culprit)
{
	OutboxError		 error = member->db.error;
	OutboxItem		*item = outbox_trouble_find(member, work->items, count, culprit);
	OutboxPartition *partition;

	if (item == NULL)
	{
		wait_for_infrastructure(member, work, &error);
		return;
	}
	outbox_count_failure(OUTBOX_FAILURE_INFRASTRUCTURE);
	item->again = item->in_window; /* what was called for may not be what it needs now */
	partition = item->record.source;
	partition->failures++;
	partition->halted = false;
	outbox_consumer_suspend(member->consumer, partition,
							outbox_clock_ms() + outbox_trouble_wait(member, partition));
}

/* Had outbox.begin_batch answered when the transaction failed?  Else no record has made it fail. */
static bool
is_begun(const OutboxItem *item)
{
	return item->claim != OUTBOX_CLAIM_NONE;
}

static void
halt_items(OutboxMember *member, Work *work, int count)
{
	const OutboxError *error = &member->db.error;

	outbox_count_failure(OUTBOX_FAILURE_DEPLOY);
	outbox_log_record(OUTBOX_LOG_ERROR, "partition_halted", &work->items[0]->record,
					  "the program and the database do not fit%s, nothing is skipped: %s (SQLSTATE "
					  "%s)",
					  is_begun(work->items[0]) ? "" : ", whatever the record", error->message,
					  error->sqlstate);
	suspend_items(member, work->items, count, true, false);
}

/*
 * The transaction of the first `count` items has failed.  A culprit that failed in
 * a batch has had its try: after the records before it, it becomes a dead letter.
 */
static void
handle_failure(OutboxMember *member, Work *work, int count, OutboxDbFailure failure, int culprit)
{
	OutboxItem *item = work->items[culprit >= 0 ? culprit : 0];
	bool		condemned = is_refused(item);

	if (failure == OUTBOX_FAILURE_INFRASTRUCTURE)
		wait_for_item(member, work, count, culprit);
	else if (count > 1 && culprit < 0 && (failure != OUTBOX_FAILURE_DEPLOY || is_begun(item)))
		work->singles = count;
	else if (failure != OUTBOX_FAILURE_DEPLOY && !condemned)
		condemn_item(item, &member->db.error);
	else if (count > 1 && culprit >= 0)
		work->alone = item;
	else
		halt_items(member, work, count); /* also when no dead letter can be written */
}

static void
end_troubles(OutboxMember *member, OutboxItem **items, int count)
{
	for (int i = 0; i < count; i++)
		outbox_trouble_done(member, &items[i]->record);
}

static void
run_items(OutboxMember *member, Work *work, int count)
{
	int64_t			started = outbox_clock_ms();
	OutboxDbFailure failure;
	int				culprit;
	int				done;
	bool			fenced;

	for (int i = 0; i < count && work->items[0]->in_window; i++)
		outbox_window_entry(work->items[i])->in_batch = true;
	failure = outbox_batch_run(member, work->items, count, &culprit, &done, &fenced);
	for (int i = 0; i < count && work->items[0]->in_window; i++)
		outbox_window_entry(work->items[i])->in_batch = i < done;
	if (done > 0)
	{
		outbox_observe_batch(work->items, done, (double) (outbox_clock_ms() - started) / 1000);
		note_done(member, work->items, done);
		for (int i = 0; i < done && work->items[0]->in_window; i++)
			pass_window(member, work->items[i]->record.source);
		end_troubles(member, work->items, done);
		work->singles -= work->singles > done ? done : work->singles;
		member->cautious -= member->cautious > done ? done : member->cautious;
	}
	if (fenced)
	{
		outbox_log_record(OUTBOX_LOG_WARNING, "watermark_moved", &work->items[0]->record,
						  "another member was here: positions are read again");
		suspend_items(member, work->items, count, false, true);
	}
	else if (failure != OUTBOX_FAILURE_NONE)
	{
		if (culprit >= 0)
			member->cautious = CAUTION_RECORDS;
		handle_failure(member, work, count, failure, culprit);
	}
}

/* Must the item be run alone? */
static bool
is_alone(const Work *work, const OutboxItem *item)
{
	const OutboxPartition *partition = item->record.source;

	return item == work->alone || outbox_trouble_is(item) ||
		((partition->alone > 0 || partition->trouble.singly > 0) &&
		 item->record.offset >= partition->watermark);
}

/* Length of the next transaction, before its records are looked at. */
static int
choose_count(const OutboxMember *member, const Work *work)
{
	int most = work->count;

	if (member->cautious > 0 && most > OUTBOX_CAUTIOUS_MAX)
		most = OUTBOX_CAUTIOUS_MAX;
	if (work->singles > 0 || is_alone(work, work->items[0]))
		return 1;
	for (int i = 1; i < most; i++)
	{
		if (is_alone(work, work->items[i]))
			return i;
	}
	return most;
}

/*
 * Before items of partitions where a record may end the process are looked at.  false:
 * member->db.error.
 */
static bool
note_items(OutboxMember *member, const Work *work, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (work->items[i]->record.source->alone > 0 && !outbox_crash_note(member, work->items[i]))
			return false;
	}
	return true;
}

/* The breaker is open, and the record would be another dead letter? */
static bool
is_hopeless(OutboxMember *member, const OutboxItem *item)
{
	return is_refused(item) &&
		outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_TRYING;
}

void
outbox_process_wait(OutboxMember *member, OutboxItem **items, int count)
{
	Work work = {.items = items, .count = count};

	if (member->db.error.failure == OUTBOX_FAILURE_DEPLOY)
		halt_items(member, &work, count);
	else
	{
		const OutboxError error = member->db.error;

		wait_for_infrastructure(member, &work, &error);
	}
}

void
outbox_process_items(OutboxMember *member, OutboxItem **in_hand, int in_hand_count)
{
	OutboxItem *items[in_hand_count];
	Work		work = {.items = items};
	int			count;

	member->in_hand = in_hand;
	member->in_hand_count = in_hand_count;
	while (!outbox_breaker_pause(member) && (work.count = collect_items(member, items)) > 0)
	{
		count = choose_count(member, &work);
		if (!note_items(member, &work, count))
		{
			handle_failure(member, &work, 1, member->db.error.failure, -1);
			continue;
		}
		count = prepare_items(member, &work, count);
		if (count > 0 && items[0]->verdict == OUTBOX_VERDICT_CALL && outbox_trouble_is(items[0]) &&
			!outbox_trouble_note(member, items[0]))
			handle_failure(member, &work, 1, member->db.error.failure, -1);
		else if (is_hopeless(member, items[0]))
		{
			outbox_breaker_record_failed(member, &items[0]->record, &items[0]->call.error);
			items[0]->again = items[0]->in_window;
			suspend_items(member, items, 1, false, false);
		}
		else if (count > 0)
			run_items(member, &work, count);
		else
			wait_for_infrastructure(member, &work, &items[0]->call.error);
	}
	member->in_hand_count = 0;
}
