/* SPDX-License-Identifier: PostgreSQL
 *
 * test_calls.c
 *	  Calls to other systems: the window of their records, who may call, the
 *	  threads they run on.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "unit.h"
#include "services/runtime/call_gate.h"
#include "services/runtime/call_pool.h"
#include "services/runtime/window.h"

#define DEADLINE_S 60

static OutboxPartition first = {.topic = "t", .partition = 0};
static OutboxPartition second = {.topic = "t", .partition = 1};

static void
begin_partition(OutboxPartition *partition, int64_t watermark)
{
	partition->owned = partition->active = true;
	partition->next = partition->watermark = watermark;
	partition->reading = 1;
}

static OutboxEntry *
add(OutboxWindow *window, OutboxPartition *partition, int64_t offset, const char *key)
{
	OutboxRecord record = {.topic = partition->topic,
						   .partition = partition->partition,
						   .offset = offset,
						   .timestamp_ms = 1000 + offset,
						   .key = (const uint8_t *) key,
						   .key_len = key != NULL ? strlen(key) : 0,
						   .source = partition};

	return outbox_window_add(window, &record);
}

/* The offsets of the candidates, as "10 11 ". */
static const char *
candidates(const OutboxWindow *window, int64_t now, int fresh)
{
	static char	 text[128];
	OutboxEntry *found[64];
	int			 count = outbox_window_candidates(window, now, fresh, 64, found);

	text[0] = '\0';
	for (int i = 0; i < count; i++)
		sprintf(text + strlen(text), "%d ", (int) found[i]->anchor.offset);
	return text;
}

static OutboxWindowEnd
end_of(const OutboxWindow *window, const OutboxPartition *partition)
{
	OutboxWindowEnd end;

	outbox_window_end(window, partition, &end);
	return end;
}

static void
test_keys(void)
{
	OutboxWindow window = {0};
	OutboxEntry *a;
	OutboxEntry *b;

	begin_partition(&first, 10);
	begin_partition(&second, -1);
	a = add(&window, &first, 10, "a");
	b = add(&window, &first, 11, "b");
	add(&window, &first, 12, "a");
	add(&window, &first, 13, NULL);
	add(&window, &first, 14, NULL);
	add(&window, &second, 3, "c");
	CHECK(strcmp(candidates(&window, 0, 64), "10 11 13 14 3 ") == 0,
		  "one of each key, those without");
	CHECK(strcmp(candidates(&window, 0, 2), "10 11 ") == 0, "no more than there is room for");
	CHECK(strcmp(candidates(&window, 0, 0), "") == 0, "none");
	a->state = OUTBOX_ENTRY_CALLING;
	CHECK(strcmp(candidates(&window, 0, 64), "11 13 14 3 ") == 0, "behind a call");
	a->state = OUTBOX_ENTRY_WAITING;
	a->call_at = 100;
	b->state = OUTBOX_ENTRY_ANSWERED;
	CHECK(strcmp(candidates(&window, 99, 64), "13 14 3 ") == 0, "it waits");
	CHECK(strcmp(candidates(&window, 100, 0), "10 ") == 0, "it is due, whatever room there is");
	a->state = OUTBOX_ENTRY_ANSWERED;
	a->item.verdict = OUTBOX_VERDICT_CALL;
	CHECK(strcmp(candidates(&window, 0, 64), "13 14 3 ") == 0, "behind an answer");
	outbox_window_done(a);
	CHECK(strcmp(candidates(&window, 0, 64), "12 13 14 3 ") == 0, "behind what is done");
	second.active = false;
	CHECK(strcmp(candidates(&window, 0, 64), "12 13 14 ") == 0, "of active partitions");
	outbox_window_free(&window);
}

static void
test_events(void)
{
	OutboxWindow window = {0};
	OutboxEntry *ignored;

	begin_partition(&first, 0);
	add(&window, &first, 0, "a");
	window.entries[0]->id_hash = 7;
	add(&window, &first, 1, "b");
	window.entries[1]->id_hash = 7;
	add(&window, &first, 2, "c");
	CHECK(strcmp(candidates(&window, 0, 64), "0 2 ") == 0, "one of each event");
	ignored = window.entries[0];
	ignored->state = OUTBOX_ENTRY_ANSWERED;
	ignored->item.verdict = OUTBOX_VERDICT_IGNORE;
	CHECK(strcmp(candidates(&window, 0, 64), "1 2 ") == 0,
		  "nothing is behind what is stepped over");
	outbox_window_free(&window);
}

static void
test_watermark(void)
{
	OutboxWindow	window = {0};
	OutboxEntry	   *entries[4];
	OutboxWindowEnd end;

	begin_partition(&first, 10);
	for (int i = 0; i < 4; i++)
		entries[i] = add(&window, &first, 10 + 2 * i, "k");
	entries[1]->in_batch = true;
	end = end_of(&window, &first);
	CHECK(!end.moved && end.next == 10 && end.done_to == 13,
		  "above one that is not done the watermark stays");
	outbox_window_done(entries[1]);
	entries[0]->in_batch = true;
	end = end_of(&window, &first);
	CHECK(end.moved && end.next == 13 && end.last.offset == 12 && end.last.timestamp_ms == 1012 &&
			  end.done_to == -1,
		  "then it goes behind both");
	entries[3]->in_batch = true;
	end = end_of(&window, &first);
	CHECK(end.next == 13 && end.done_to == 17, "and the batch reaches above");
	first.watermark = -1;
	entries[0]->in_batch = false;
	end = end_of(&window, &first);
	CHECK(!end.moved && end.next == 10, "without one it is at the first that is not done");
	entries[0]->in_batch = entries[2]->in_batch = true;
	end = end_of(&window, &first);
	CHECK(end.moved && end.next == 17 && end.done_to == -1, "all are done");
	outbox_window_free(&window);
}

static void
test_known(void)
{
	OutboxWindow	   window = {0};
	OutboxWindowCounts counts;
	OutboxEntry		  *a;

	begin_partition(&first, 10);
	CHECK(add(&window, &first, 9, "a") == NULL, "before what is done");
	a = add(&window, &first, 10, "a");
	add(&window, &first, 11, "b");
	CHECK(add(&window, &first, 10, "a") == NULL, "read again");
	outbox_window_done(a);
	CHECK(add(&window, &first, 10, "a") == NULL, "done and read again");
	outbox_window_count(&window, &counts);
	CHECK(counts.unfinished == 1 && first.unfinished == 1 && first.in_window == 2, "counted");
	first.next = 11;
	outbox_window_sweep(&window);
	CHECK(window.count == 1, "what is passed is gone");
	a = window.entries[0];
	a->state = OUTBOX_ENTRY_CALLING;
	first.reading++;
	CHECK(end_of(&window, &first).next == 10, "of another reading it counts no more");
	outbox_window_sweep(&window);
	CHECK(window.count == 0 && a->dropped, "nor is it there, but for its call");
	outbox_entry_free(a);
	CHECK(add(&window, &first, 11, "b") != NULL, "it is read anew");
	first.owned = first.active = false;
	outbox_window_sweep(&window);
	CHECK(window.count == 0, "given up");
	outbox_window_free(&window);
}

static void
test_copy(void)
{
	OutboxWindow window = {0};
	char		 key[] = "key";
	OutboxEntry *entry;

	begin_partition(&first, 0);
	entry = add(&window, &first, 0, key);
	memset(key, 'x', 3);
	CHECK(memcmp(entry->item.record.key, "key", 3) == 0 && entry->item.record.event_id[0] != '\0',
		  "a copy of the record");
	outbox_window_free(&window);
}

static void
test_gate(void)
{
	OutboxCallGate gate;

	outbox_call_gate_init(&gate);
	CHECK(outbox_call_gate_enter(&gate, false, 0) && outbox_call_gate_enter(&gate, false, 0),
		  "together");
	CHECK(!outbox_call_gate_enter(&gate, true, 1000), "not alone beside others");
	CHECK(!outbox_call_gate_enter(&gate, false, 1499), "who wants to be alone goes first");
	CHECK(outbox_call_gate_enter(&gate, false, 1500), "as long as he asks");
	CHECK(outbox_call_gate_is_open(&gate, 1500) && !outbox_call_gate_is_open(&gate, 1499),
		  "it is told before");
	for (int i = 0; i < 3; i++)
		outbox_call_gate_leave(&gate, false);
	CHECK(outbox_call_gate_enter(&gate, true, 2000), "alone");
	CHECK(!outbox_call_gate_enter(&gate, false, 6999) && !outbox_call_gate_enter(&gate, true, 6999),
		  "nobody beside");
	CHECK(outbox_call_gate_enter(&gate, false, 7000) && !outbox_call_gate_enter(&gate, true, 7000),
		  "but when it takes long");
	outbox_call_gate_leave(&gate, true);
	outbox_call_gate_leave(&gate, false);
	CHECK(outbox_call_gate_enter(&gate, true, 7000), "free");
}

/* A job that ends when all of them have begun. */
typedef struct Job
{
	OutboxCallJob	   job;
	pthread_barrier_t *barrier;
} Job;

static void
run_job(OutboxCallJob *job)
{
	pthread_barrier_wait(((Job *) job)->barrier);
}

static void
test_pool(void)
{
	enum
	{
		THREADS = 8
	};
	const struct timespec pause = {0, 1000000};
	OutboxCallPool		 *pool = outbox_call_pool_make(THREADS);
	OutboxCallQueue		  answers;
	pthread_barrier_t	  barrier;
	Job					  jobs[3 * THREADS];
	int					  back = 0;

	outbox_call_queue_init(&answers);
	pthread_barrier_init(&barrier, NULL, THREADS);
	CHECK(outbox_call_queue_take(&answers) == NULL, "nothing is back");
	for (int i = 0; i < 3 * THREADS; i++)
	{
		jobs[i] = (Job) {.job = {.run = run_job, .answers = &answers}, .barrier = &barrier};
		CHECK(outbox_call_pool_push(pool, &jobs[i].job), "taken");
	}
	for (int i = 0; i < 1000 * DEADLINE_S && back < 3 * THREADS; i++)
	{
		while (outbox_call_queue_take(&answers) != NULL)
			back++;
		nanosleep(&pause, NULL);
	}
	CHECK(back == 3 * THREADS, "as many at once as there are threads, and all come back");
	for (int i = 0; i < 1000 * DEADLINE_S && outbox_call_pool_under_way(pool) > 0; i++)
		nanosleep(&pause, NULL);
	CHECK(outbox_call_pool_under_way(pool) == 0, "none is under way");
}

int
main(void)
{
	test_keys();
	test_events();
	test_watermark();
	test_known();
	test_copy();
	test_gate();
	test_pool();
	return finish_tests();
}
