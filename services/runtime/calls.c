/* SPDX-License-Identifier: PostgreSQL
 *
 * calls.c
 *	  Records whose handlers call out: judged, called for, committed.
 *
 * Runs in the services, member threads; the calls themselves run on the pool's.
 *
 * A record that is processed or held is not called for.  The transaction judges again: what was
 * held and is not any more, and what it could not do with the answer, is judged once more.  Calls
 * that may have been under way when a process ended are made alone, each noted before it is
 * decoded.
 */
#define _GNU_SOURCE
#include "calls.h"

#include <stdlib.h>
#include <string.h>

#include "breaker.h"
#include "call.h"
#include "crash.h"
#include "judge.h"
#include "process.h"
#include "record_log.h"
#include "retry.h"
#include "service_metrics.h"
#include "settings.h"
#include "services/lib/backoff.h"
#include "services/lib/clock.h"

#define READ_AHEAD	  4	 /* times calls_max: records in the window that are not done */
#define DONE_AHEAD	  64 /* times calls_max: records of a partition in the window */
#define CALLING_MS	  10 /* how often answers are looked for */
#define UNFINISHED_MS 50 /* how often it is looked whether a call may begin */
#define DRAIN_MS	  5000

bool
outbox_calls_for(const OutboxMember *member, const char *topic)
{
	for (const OutboxHandler *handler = member->runtime->handlers; handler->topic != NULL;
		 handler++)
	{
		if (handler->call_out != NULL && strcmp(handler->topic, topic) == 0)
			return true;
	}
	return false;
}

void
outbox_calls_open(OutboxMember *member)
{
	if (member->runtime->pool == NULL)
		return;
	member->window = calloc(1, sizeof(*member->window));
	if (member->window == NULL)
		abort(); /* no memory for a few bytes */
	outbox_call_queue_init(&member->answers);
	outbox_call_queue_init(&member->retry_answers);
}

void
outbox_calls_add(OutboxMember *member, const OutboxRecord *record)
{
	OutboxEntry *entry = outbox_window_add(member->window, record);

	if (entry == NULL)
		return;
	entry->partition->unfinished++;
	outbox_item_find_handler(member, &entry->item);
	if (entry->item.handler != NULL)
		return;
	entry->item.verdict = OUTBOX_VERDICT_IGNORE;
	entry->item.prepared = true;
	entry->state = OUTBOX_ENTRY_ANSWERED;
}

/* A thread of the pool. */
static void
run_call(OutboxCallJob *job)
{
	OutboxItem *item = &((OutboxEntry *) job)->item;

	item->verdict =
		item->handler->call_out->run(&item->record, ((OutboxEntry *) job)->told, &item->call);
}

/* What it calls is away. */
static void
wait_with(OutboxMember *member, OutboxEntry *entry)
{
	int64_t pause = outbox_backoff(&member->random_state, ++entry->waits);

	entry->state = OUTBOX_ENTRY_WAITING;
	entry->call_at = outbox_clock_ms() + pause;
	outbox_count_failure(OUTBOX_FAILURE_INFRASTRUCTURE);
	outbox_log_record(OUTBOX_LOG_WARNING, "waiting", &entry->item.record, "%s",
					  entry->item.call.error.message);
}

/* Decoded and, where that is needed, called for. */
static void
note_answered(OutboxMember *member, OutboxEntry *entry)
{
	if (entry->item.verdict == OUTBOX_VERDICT_WAIT)
	{
		wait_with(member, entry);
		return;
	}
	entry->item.prepared = true;
	entry->state = OUTBOX_ENTRY_ANSWERED;
}

/* A record that was to be alone is no danger any more. */
static void
end_alone(OutboxMember *member, OutboxEntry *entry)
{
	if (entry->alone)
		outbox_call_gate_leave(&member->runtime->gate, true);
	entry->alone = false;
	outbox_crash_acquit(entry->partition, entry->anchor.offset);
}

static void
take_answers(OutboxMember *member)
{
	OutboxCallJob *job;

	while ((job = outbox_call_queue_take(&member->answers)) != NULL)
	{
		OutboxEntry *entry = (OutboxEntry *) job;

		outbox_observe_call(&entry->item, (double) job->took_ms / 1000);
		if (!entry->alone)
			outbox_call_gate_leave(&member->runtime->gate, false);
		if (entry->dropped)
		{
			if (entry->alone)
				outbox_call_gate_leave(&member->runtime->gate, true);
			outbox_entry_free(entry);
			continue;
		}
		end_alone(member, entry);
		note_answered(member, entry);
	}
}

/* Judged and called for once more. */
static void
begin_again(OutboxEntry *entry)
{
	outbox_call_clear(&entry->item.call);
	entry->item.again = false;
	entry->item.tries = 1;
	entry->state = OUTBOX_ENTRY_READ;
}

/* Commits what is ready. */
static void
run_ready(OutboxMember *member)
{
	bool		 trying = outbox_breaker_state(&member->runtime->breaker) == OUTBOX_BREAKER_TRYING;
	int			 most = trying ? 1 : outbox_settings.batch_max;
	OutboxEntry *found[most];
	OutboxItem	*items[most];
	int			 count = outbox_window_ready(member->window, most, found);

	if (count == 0)
		return;
	for (int i = 0; i < count; i++)
		items[i] = &found[i]->item;
	member->runtime->last_record_at = outbox_clock_ms();
	outbox_process_items(member, items, count);
	for (int i = 0; i < count; i++)
	{
		if (items[i]->done)
		{
			outbox_crash_acquit(found[i]->partition, found[i]->anchor.offset);
			outbox_window_done(found[i]);
		}
		else if (items[i]->again)
			begin_again(found[i]);
	}
	outbox_window_sweep(member->window);
}

/* What the database says keeps it from being called for? */
static bool
is_settled(OutboxEntry *entry)
{
	OutboxItem *item = &entry->item;

	item->known = item->claim == OUTBOX_CLAIM_DUPLICATE;
	item->held = item->claim == OUTBOX_CLAIM_HELD;
	if (!item->known && !item->held)
		return false;
	item->verdict = item->known ? OUTBOX_VERDICT_IGNORE : OUTBOX_VERDICT_CALL;
	item->prepared = true;
	entry->state = OUTBOX_ENTRY_ANSWERED;
	return true;
}

/* They wait with their partitions; they stay as they are. */
static void
wait_for_database(OutboxMember *member, OutboxEntry **entries, int count)
{
	OutboxItem *items[count];

	for (int i = 0; i < count; i++)
		items[i] = &entries[i]->item;
	outbox_process_wait(member, items, count);
}

static bool
is_waited_out(OutboxDbFailure failure)
{
	return failure == OUTBOX_FAILURE_INFRASTRUCTURE || failure == OUTBOX_FAILURE_DEPLOY;
}

/*
 * Asks for the entries of one handler; those that nothing can be asked for are answered, with the
 * error.  false: all have to wait.
 */
static bool
ask_handler(OutboxMember *member, OutboxEntry **entries, int count)
{
	OutboxItem *item = &entries[0]->item;

	if (item->handler->call_out->ask == NULL || outbox_judge_ask(member, entries, count))
		return true;
	if (is_waited_out(member->db.error.failure))
	{
		wait_for_database(member, entries, count);
		return false;
	}
	if (count > 1)
	{
		for (int i = 0; i < count; i++)
		{
			if (!ask_handler(member, &entries[i], 1))
				return false;
		}
		return true;
	}
	item->call.error = member->db.error;
	item->verdict = item->call.error.failure == OUTBOX_FAILURE_RECORD ? OUTBOX_VERDICT_FAIL :
																		OUTBOX_VERDICT_REJECT;
	note_answered(member, entries[0]);
	return true;
}

/* What cannot begin now is judged again. */
static void
begin_call(OutboxMember *member, OutboxEntry *entry)
{
	OutboxRuntime *runtime = member->runtime;

	if (!entry->alone && !outbox_call_gate_enter(&runtime->gate, false, outbox_clock_ms()))
		return;
	entry->job.run = run_call;
	entry->job.answers = &member->answers;
	entry->state = OUTBOX_ENTRY_CALLING;
	if (outbox_call_pool_push(runtime->pool, &entry->job))
		return;
	entry->state = OUTBOX_ENTRY_READ;
	if (!entry->alone)
		outbox_call_gate_leave(&runtime->gate, false);
}

/* Of decoded entries that are to be called for those of the first one's handler, in front. */
static int
gather_handler(OutboxEntry **entries, int count)
{
	int same = 0;

	for (int i = 0; i < count; i++)
	{
		OutboxEntry *entry = entries[i];

		if (entry->item.handler != entries[0]->item.handler)
			continue;
		memmove(&entries[same + 1], &entries[same], (size_t) (i - same) * sizeof(*entries));
		entries[same++] = entry;
	}
	return same;
}

/* Asks and begins the calls of decoded entries. */
static void
begin_decoded(OutboxMember *member, OutboxEntry **entries, int count)
{
	while (count > 0)
	{
		int same = gather_handler(entries, count);

		if (!ask_handler(member, entries, same))
			return;
		for (int i = 0; i < same; i++)
		{
			if (entries[i]->state != OUTBOX_ENTRY_ANSWERED)
				begin_call(member, entries[i]);
		}
		entries += same;
		count -= same;
	}
}

/* Decodes what may be called for; the entries to be called for come to the front. */
static int
decode_entries(OutboxMember *member, OutboxEntry **entries, int count)
{
	int calls = 0;

	for (int i = 0; i < count; i++)
	{
		OutboxEntry *entry = entries[i];

		if (is_settled(entry))
			continue;
		outbox_item_prepare(member, &entry->item);
		if (entry->item.verdict == OUTBOX_VERDICT_CALL && entry->item.handler->call_out != NULL)
			entries[calls++] = entry;
		else
			note_answered(member, entry);
	}
	return calls;
}

/* A record that may end the process, when no other call is under way. */
static void
begin_alone(OutboxMember *member, OutboxEntry *entry)
{
	if (!outbox_call_gate_enter(&member->runtime->gate, true, outbox_clock_ms()))
		return;
	entry->alone = true;
	if (!outbox_judge_records(member, &entry, 1) ||
		(entry->item.claim == OUTBOX_CLAIM_NEW && !outbox_crash_note(member, &entry->item)))
		wait_for_database(member, &entry, 1);
	else if (entry->item.prepared) /* condemned */
		note_answered(member, entry);
	else
		begin_decoded(member, &entry, decode_entries(member, &entry, 1));
	if (entry->state == OUTBOX_ENTRY_ANSWERED || entry->state == OUTBOX_ENTRY_WAITING)
		end_alone(member, entry);
	else if (entry->state != OUTBOX_ENTRY_CALLING)
	{
		outbox_call_gate_leave(&member->runtime->gate, true);
		entry->alone = false;
	}
}

/* How many may be called for that are not yet. */
static int
choose_fresh(OutboxMember *member, const OutboxWindowCounts *counts)
{
	switch (outbox_breaker_state(&member->runtime->breaker))
	{
		case OUTBOX_BREAKER_PAUSED:
			return 0;
		case OUTBOX_BREAKER_TRYING:
			return counts->calling == 0; /* what waits may do so for ever */
		default:
			return outbox_settings.calls_max - counts->under_way;
	}
}

/* Begins the first call that is to be alone, if it may, and takes out all such. */
static int
set_suspects_apart(OutboxMember *member, OutboxEntry **found, int count)
{
	OutboxEntry *suspect = NULL;
	int			 others = 0;

	for (int i = 0; i < count; i++)
	{
		if (!outbox_crash_is_suspect(found[i]->partition, found[i]->anchor.offset))
			found[others++] = found[i];
		else if (suspect == NULL)
			suspect = found[i];
	}
	if (suspect != NULL)
		begin_alone(member, suspect);
	return others;
}

static void
begin_calls(OutboxMember *member)
{
	OutboxEntry		  *found[outbox_settings.calls_max];
	OutboxWindowCounts counts;
	int				   count;

	outbox_window_count(member->window, &counts);
	count =
		outbox_window_candidates(member->window, outbox_clock_ms(), choose_fresh(member, &counts),
								 outbox_settings.calls_max, found);
	for (int i = 0; i < count; i++)
		found[i]->item.prepared = found[i]->item.held = found[i]->item.known = false;
	count = set_suspects_apart(member, found, count);
	if (count == 0 || !outbox_call_gate_is_open(&member->runtime->gate, outbox_clock_ms()))
		return;
	if (outbox_judge_records(member, found, count))
		begin_decoded(member, found, decode_entries(member, found, count));
	else
		wait_for_database(member, found, count);
}

/* Reads no more for the window while it is full. */
static void
hold_back(OutboxMember *member, const OutboxWindowCounts *counts)
{
	int				 most = READ_AHEAD * outbox_settings.calls_max;
	OutboxPartition *partition;
	bool			 any = false;

	member->full = counts->unfinished >= (member->full ? most / 2 : most);
	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		int	 done_most = DONE_AHEAD * outbox_settings.calls_max / (partition->held_back ? 2 : 1);
		bool wanted = member->full || partition->in_window >= done_most;

		if (!partition->calls_out || !partition->active || partition->held_back == wanted)
			continue;
		outbox_consumer_hold_back(member->consumer, partition, wanted);
		any = any || !wanted;
	}
	if (any)
		outbox_consumer_wake(member->consumer);
}

static void
publish_counts(OutboxMember *member, const OutboxWindowCounts *counts)
{
	member->calls_under_way = counts->calling + member->retry_call_count;
	member->calls_waiting = counts->unfinished - counts->calling;
	member->window_full = member->full;
}

void
outbox_calls_turn(OutboxMember *member, bool begin)
{
	OutboxWindowCounts counts;

	if (member->window == NULL)
		return;
	outbox_window_sweep(member->window);
	take_answers(member);
	run_ready(member);
	if (begin)
		begin_calls(member);
	outbox_window_count(member->window, &counts);
	if (begin)
		hold_back(member, &counts);
	publish_counts(member, &counts);
}

int
outbox_calls_timeout(const OutboxMember *member, int timeout)
{
	int most = member->calls_under_way > 0 ? CALLING_MS : UNFINISHED_MS;

	if (member->window == NULL || member->calls_under_way + member->calls_waiting == 0)
		return timeout;
	return timeout < most ? timeout : most;
}

/* Nothing is read any more; what comes all the same is read by the next member. */
static void
stop_reading(OutboxMember *member)
{
	OutboxPartition *partition;

	for (size_t i = 0; (partition = outbox_consumer_partition(member->consumer, i)) != NULL; i++)
	{
		if (partition->active)
			outbox_consumer_hold_back(member->consumer, partition, true);
	}
}

void
outbox_calls_drain(OutboxMember *member)
{
	int64_t		 deadline = outbox_clock_ms() + DRAIN_MS;
	OutboxRecord record;

	if (member->window == NULL)
		return;
	stop_reading(member);
	outbox_calls_turn(member, false);
	while (member->calls_under_way > 0 && outbox_clock_ms() < deadline &&
		   !outbox_consumer_fatal(member->consumer))
	{
		if (outbox_consumer_poll(member->consumer, CALLING_MS, &record))
		{
			outbox_consumer_suspend(member->consumer, record.source, deadline);
			outbox_consumer_release(&record);
		}
		outbox_calls_turn(member, false);
		outbox_retry_take_answers(member);
		outbox_consumer_store(member->consumer);
	}
	if (member->calls_under_way > 0)
		outbox_log(OUTBOX_LOG_WARNING, "calls_dropped",
				   "%d calls are still under way: they are made again by the next member",
				   member->calls_under_way);
}

void
outbox_calls_close(OutboxMember *member)
{
	if (member->window == NULL)
		return;
	outbox_window_free(member->window);
	free(member->window);
	member->window = NULL;
}
