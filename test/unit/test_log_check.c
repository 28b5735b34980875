/* SPDX-License-Identifier: PostgreSQL
 *
 * test_log_check.c
 *	  The thread that checks logs, when a look at them does not end: askers go on without an
 *	  answer, and the end of the process does not wait.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "unit.h"
#include "services/lib/log.h"
#include "services/runtime/log_check.h"
#include "services/runtime/log_reader.h"

/* In the place of log_reader.c, clock.c and log.c. */
static atomic_bool	   blocked;
static atomic_int	   looks;
static _Atomic int64_t skew_ms;

static int64_t
real_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void
pause_ms(long ms)
{
	const struct timespec pause = {0, ms * 1000000};

	nanosleep(&pause, NULL);
}

int64_t
outbox_clock_ms(void)
{
	return real_ms() + skew_ms;
}

void
outbox_log(OutboxLogLevel level, const char *event, const char *format, ...)
{
	(void) level;
	(void) event;
	(void) format;
}

OutboxLogReader *
outbox_log_reader_open(const OutboxConsumerConfig *config)
{
	(void) config;
	return (OutboxLogReader *) &looks;
}

/* What is asked for is there: a record without time stamp, of digest 0. */
void
outbox_log_reader_look(OutboxLogReader *reader, OutboxLogProbe *probes, int count)
{
	(void) reader;
	looks++;
	while (blocked)
		pause_ms(5);
	for (int i = 0; i < count; i++)
		probes[i].view = (OutboxLogView) {OUTBOX_FOUND_RECORD, -1, 0, true, 0, 100, true};
}

void
outbox_log_reader_end(OutboxLogReader *reader)
{
	(void) reader;
}

void
outbox_log_reader_close(OutboxLogReader *reader)
{
	(void) reader;
}

static OutboxLogQuestion *
ask(int32_t partition)
{
	const OutboxAnchor anchor = {9, -1, 0};

	return outbox_log_check_ask("t", partition, &(OutboxAnchor) {-1, 0, 0}, &anchor, 1, 10, true,
								false);
}

static const OutboxLogCase *
await_answer(OutboxLogQuestion *question)
{
	const OutboxLogCase *log = NULL;

	for (int i = 0; log == NULL && i < 2000; i++)
	{
		pause_ms(5);
		log = outbox_log_check_answer(question);
	}
	return log;
}

static void
await_look(int number)
{
	for (int i = 0; looks < number && i < 2000; i++)
		pause_ms(5);
}

int
main(void)
{
	OutboxLogQuestion	*first;
	OutboxLogQuestion	*last = NULL;
	const OutboxLogCase *log;
	int64_t				 began;

	CHECK(outbox_log_check_start(NULL), "the thread starts");
	first = ask(0);
	log = await_answer(first);
	CHECK(log != NULL && outbox_log_case_verdict(log) == OUTBOX_LOG_SAME, "it answers");
	outbox_log_check_forget(first);

	blocked = true;
	first = ask(0);
	await_look(2);
	for (int32_t i = 1; i <= 400; i++)
		last = ask(i);
	CHECK(!outbox_log_check_overdue(first) && outbox_log_check_answer(first) == NULL,
		  "a look takes its time");
	skew_ms = 16000;
	CHECK(outbox_log_check_overdue(first), "but no longer than 15 s: then the asker goes on");
	CHECK(!outbox_log_check_overdue(last), "those behind many others have more");
	skew_ms = 60000;
	CHECK(outbox_log_check_overdue(last), "and not for ever");
	outbox_log_check_forget(first);

	began = real_ms();
	outbox_log_check_stop();
	CHECK(real_ms() - began >= 2900, "the end waits for a look under way");
	CHECK(real_ms() - began < 30000, "but for no other");
	return finish_tests();
}
