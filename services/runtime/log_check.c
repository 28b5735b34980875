/* SPDX-License-Identifier: PostgreSQL
 *
 * log_check.c
 *	  The thread that checks whether logs are still those that were read.
 *
 * Runs in the services: a thread of its own, and those of the members that ask.  A proof of another
 * log counts when it was found twice, a second apart: a leader that has just been replaced, or a
 * topic that is being made anew, must not mislead.
 */
#define _GNU_SOURCE
#include "log_check.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "anchor.h"
#include "log_reader.h"
#include "services/lib/clock.h"
#include "services/lib/log.h"

#define SECOND_LOOK_MS 1000
#define OVERDUE_MS	   15000 /* longer than a look of which no broker answers anything */
#define END_MAX_S	   3	 /* longer than one request */

struct OutboxLogQuestion
{
	OutboxLogQuestion *next; /* in the queue; under the lock */
	char			  *topic;
	int32_t			   partition;
	OutboxAnchor	   last;
	OutboxAnchor	   anchors[OUTBOX_ANCHORS];
	int				   count;
	int64_t			   position;
	bool			   urgent;
	bool			   doubtful;   /* the thread's, after it was asked */
	int64_t			   not_before; /* outbox_clock_ms; the thread's */
	int64_t			   overdue_at; /* outbox_clock_ms; the asker's */
	OutboxLogCase	   log;		   /* the thread's until it is answered */
	bool			   answered;   /* under the lock */
	bool			   forgotten;  /* under the lock: the thread frees it */
};

static struct
{
	pthread_t		   thread;
	pthread_mutex_t	   lock;
	pthread_cond_t	   changed;
	OutboxLogQuestion *queue; /* under the lock */
	bool			   started;
	bool			   stopping; /* under the lock */
	OutboxLogReader	  *reader;	 /* the thread's */
	/* of the questions taken last, in turn; outbox_clock_ms, the thread's */
	int64_t			   taken_at[OUTBOX_LOG_CHECKS_A_SECOND];
	int				   taken_next; /* the oldest of these; the thread's */
} check = {.lock = PTHREAD_MUTEX_INITIALIZER};

static void
free_question(OutboxLogQuestion *question)
{
	free(question->topic);
	free(question);
}

/* Puts it behind those that are as urgent, returns their number; the caller has the lock. */
static int
enqueue(OutboxLogQuestion *question)
{
	OutboxLogQuestion **place = &check.queue;
	int					before = 0;

	while (*place != NULL && (!question->urgent || (*place)->urgent))
	{
		place = &(*place)->next;
		before++;
	}
	question->next = *place;
	*place = question;
	pthread_cond_signal(&check.changed);
	return before;
}

static bool
is_same_log(const OutboxLogQuestion *one, const OutboxLogQuestion *other)
{
	return one->partition == other->partition && strcmp(one->topic, other->topic) == 0;
}

/*
 * Takes up to `room` questions that are due out of the queue, of different logs; the caller has the
 * lock.
 */
static int
dequeue(OutboxLogQuestion **taken, int room, int64_t now)
{
	OutboxLogQuestion **place = &check.queue;
	int					count = 0;

	while (*place != NULL && count < room)
	{
		OutboxLogQuestion *question = *place;
		bool			   due = question->not_before <= now;

		for (int i = 0; i < count; i++)
			due = due && !is_same_log(taken[i], question);
		if (question->forgotten)
		{
			*place = question->next;
			free_question(question);
		}
		else if (due)
		{
			*place = question->next;
			taken[count++] = question;
		}
		else
			place = &question->next;
	}
	return count;
}

/* How many questions may be taken now. */
static int
count_room(int64_t now)
{
	int room = 0;

	while (room < OUTBOX_LOG_CHECKS_A_SECOND &&
		   check.taken_at[(check.taken_next + room) % OUTBOX_LOG_CHECKS_A_SECOND] + 1000 <= now)
		room++;
	return room;
}

static void
note_taken(int count, int64_t now)
{
	for (int i = 0; i < count; i++)
	{
		check.taken_at[check.taken_next] = now;
		check.taken_next = (check.taken_next + 1) % OUTBOX_LOG_CHECKS_A_SECOND;
	}
}

/* Waits for questions; 0: the end. */
static int
await_questions(OutboxLogQuestion **taken)
{
	int count = 0;

	pthread_mutex_lock(&check.lock);
	while (!check.stopping)
	{
		int64_t			now = outbox_clock_ms();
		struct timespec until;

		count = dequeue(taken, count_room(now), now);
		note_taken(count, now);
		if (count > 0)
			break;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_nsec += check.queue != NULL ? 50000000 : 900000000;
		until.tv_sec += until.tv_nsec / 1000000000;
		until.tv_nsec %= 1000000000;
		pthread_cond_timedwait(&check.changed, &check.lock, &until);
	}
	count = check.stopping ? 0 : count;
	pthread_mutex_unlock(&check.lock);
	return count;
}

/* Anchor after anchor, of all of them at once. */
static void
look(OutboxLogQuestion **taken, int count)
{
	OutboxLogProbe	   probes[OUTBOX_LOG_CHECKS_A_SECOND];
	OutboxLogQuestion *asked[OUTBOX_LOG_CHECKS_A_SECOND];
	int				   open;

	for (int i = 0; i < count; i++)
		outbox_log_case_begin(&taken[i]->log, &taken[i]->last, taken[i]->anchors, taken[i]->count,
							  taken[i]->position);
	do
	{
		open = 0;
		for (int i = 0; i < count; i++)
		{
			int64_t offset;

			if (!outbox_log_case_open(&taken[i]->log, &offset))
				continue;
			asked[open] = taken[i];
			probes[open++] = (OutboxLogProbe) {
				.topic = taken[i]->topic,
				.partition = taken[i]->partition,
				.offset = offset,
			};
		}
		if (open > 0)
			outbox_log_reader_look(check.reader, probes, open);
		for (int i = 0; i < open; i++)
			outbox_log_case_see(&asked[i]->log, &probes[i].view);
	} while (open > 0);
}

static void
answer(OutboxLogQuestion **taken, int count)
{
	pthread_mutex_lock(&check.lock);
	for (int i = 0; i < count; i++)
	{
		OutboxLogQuestion *question = taken[i];

		if (question->forgotten)
			free_question(question);
		else if (outbox_log_case_verdict(&question->log) == OUTBOX_LOG_OTHER && !question->doubtful)
		{
			question->doubtful = true;
			question->not_before = outbox_clock_ms() + SECOND_LOOK_MS;
			(void) enqueue(question);
		}
		else
			question->answered = true;
	}
	pthread_mutex_unlock(&check.lock);
}

static void *
run(void *arg)
{
	OutboxLogQuestion *taken[OUTBOX_LOG_CHECKS_A_SECOND];
	int				   count;

	while ((count = await_questions(taken)) > 0)
	{
		look(taken, count);
		answer(taken, count);
	}
	return arg;
}

bool
outbox_log_check_start(const OutboxConsumerConfig *config)
{
	pthread_condattr_t attributes;

	check.reader = outbox_log_reader_open(config);
	if (check.reader == NULL)
		return false;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&check.changed, &attributes);
	pthread_condattr_destroy(&attributes);
	for (int i = 0; i < OUTBOX_LOG_CHECKS_A_SECOND; i++)
		check.taken_at[i] = INT64_MIN / 2;
	check.started = pthread_create(&check.thread, NULL, run, NULL) == 0;
	if (!check.started)
		outbox_log(OUTBOX_LOG_ERROR, "thread_failed", "%s", strerror(errno));
	return check.started;
}

OutboxLogQuestion *
outbox_log_check_ask(const char *topic, int32_t partition, const OutboxAnchor *last,
					 const OutboxAnchor *anchors, int count, int64_t position, bool urgent,
					 bool doubtful)
{
	OutboxLogQuestion *question = calloc(1, sizeof(*question));

	if (question == NULL || (question->topic = strdup(topic)) == NULL)
		abort(); /* no memory for a hundred bytes */
	question->partition = partition;
	if (count > 0)
		memcpy(question->anchors, anchors, (size_t) count * sizeof(*anchors));
	question->count = count;
	question->last = *last;
	question->position = position;
	question->urgent = urgent;
	question->doubtful = doubtful;
	pthread_mutex_lock(&check.lock);
	/* Twice the time that those before it may take. */
	question->overdue_at = outbox_clock_ms() + OVERDUE_MS +
		(int64_t) enqueue(question) * 2 * 1000 / OUTBOX_LOG_CHECKS_A_SECOND;
	pthread_mutex_unlock(&check.lock);
	return question;
}

const OutboxLogCase *
outbox_log_check_answer(OutboxLogQuestion *question)
{
	bool answered;

	pthread_mutex_lock(&check.lock);
	answered = question->answered;
	pthread_mutex_unlock(&check.lock);
	return answered ? &question->log : NULL;
}

bool
outbox_log_check_overdue(OutboxLogQuestion *question)
{
	return outbox_clock_ms() >= question->overdue_at;
}

void
outbox_log_check_forget(OutboxLogQuestion *question)
{
	bool answered;

	if (question == NULL)
		return;
	pthread_mutex_lock(&check.lock);
	answered = question->answered;
	question->forgotten = true;
	pthread_mutex_unlock(&check.lock);
	if (answered)
		free_question(question);
}

void
outbox_log_check_stop(void)
{
	OutboxLogQuestion *question;
	struct timespec	   until;

	if (!check.started)
		return;
	pthread_mutex_lock(&check.lock);
	check.stopping = true;
	pthread_cond_signal(&check.changed);
	pthread_mutex_unlock(&check.lock);
	outbox_log_reader_end(check.reader);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += END_MAX_S;
	if (pthread_clockjoin_np(check.thread, NULL, CLOCK_MONOTONIC, &until) != 0)
	{
		pthread_detach(check.thread);
		outbox_log(OUTBOX_LOG_INFO, "client_left",
				   "the check of the logs waits for a broker: it ends with the process");
		return;
	}
	while ((question = check.queue) != NULL)
	{
		check.queue = question->next;
		free_question(question);
	}
	outbox_log_reader_close(check.reader);
}
