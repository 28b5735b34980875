/* SPDX-License-Identifier: PostgreSQL
 *
 * log_writer.c
 *	  The queue of log lines and the thread that writes them.
 *
 * Runs in the services.  A pipe that nobody reads, a terminal that is stopped or a file system that
 * hangs holds the writer's thread alone.  Lines that find no room in the queue, or that cannot be
 * written (nobody has the pipe open, the disk is full), are lost and counted; when writing goes on
 * one line tells how many.
 */
#define _GNU_SOURCE
#include "log_writer.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "metrics.h"

#define END_SECONDS 2
#define POLL_MS		1000

typedef struct Line
{
	struct Line *next;
	char		*text;
	size_t		 len;
} Line;

typedef enum WriterState
{
	WRITER_NONE, /* no thread: who logs writes */
	WRITER_RUNS,
	WRITER_ENDS, /* writes what is left */
	WRITER_LEFT, /* it hangs in a write, and the process ends */
} WriterState;

static OutboxMetric dropped_total = {
	.name = "outbox_log_lines_dropped_total",
	.help = "Lines of the log that nobody took in time, or that could not be written.",
	.type = OUTBOX_METRIC_COUNTER,
};

static pthread_mutex_t queue_lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t  queue_wake = PTHREAD_COND_INITIALIZER; /* for the writer */
static pthread_cond_t  queue_done = PTHREAD_COND_INITIALIZER; /* the writer has ended */

/* guarded by queue_lock */
static WriterState	 state;
static Line			*first;
static Line		   **last = &first;
static size_t		 queued_bytes;
static unsigned long lost; /* and not told of yet */
static bool			 full; /* until all that waits is written: what is lost lies in one place */
static bool			 done;

/* written before the thread starts */
static char *(*make_lost_notice)(unsigned long lost);
static pthread_t thread;

/* of who writes without the thread; never asked for by the end */
static pthread_mutex_t direct_lock = PTHREAD_MUTEX_INITIALIZER;
/* the last write was cut inside a line; of who writes: the thread, or under direct_lock */
static bool			   torn;

/* Waits for room where standard error is non-blocking, as the parent may have made it. */
static bool
write_bytes(const char *text, size_t len)
{
	size_t written = 0;

	while (written < len)
	{
		ssize_t		  result = write(STDERR_FILENO, text + written, len - written);
		struct pollfd room = {STDERR_FILENO, POLLOUT, 0};

		if (result > 0)
			written += (size_t) result;
		else if (result < 0 && errno == EAGAIN)
			poll(&room, 1, POLL_MS);
		else if (result == 0 || errno != EINTR)
		{
			torn = torn || written > 0;
			return false;
		}
	}
	return true;
}

static bool
write_line(const char *text, size_t len)
{
	if (torn && !write_bytes("\n", 1))
		return false;
	torn = false;
	return write_bytes(text, len);
}

static void
count_lost(unsigned long lines)
{
	outbox_metric_add(&dropped_total, (double) lines, NULL);
}

/* Writes without the lock, which the caller holds. */
static bool
write_unlocked(char *text)
{
	bool good = true;

	pthread_mutex_unlock(&queue_lock);
	good = text != NULL && write_line(text, strlen(text));
	free(text);
	pthread_mutex_lock(&queue_lock);
	return good;
}

/* Tells of lost lines where they would have been.  Caller holds queue_lock. */
static void
tell_lost(void)
{
	unsigned long told = lost;

	if (lost == 0 || (full && first != NULL))
		return;
	/* Those that come meanwhile follow it. */
	full = false;
	if (write_unlocked(make_lost_notice(told)))
		lost -= told;
}

/* Writes the first line of the queue.  Caller holds queue_lock. */
static void
write_first(void)
{
	Line *line = first;

	first = line->next;
	if (first == NULL)
		last = &first;
	if (!write_unlocked(line->text))
	{
		lost++;
		count_lost(1);
	}
	queued_bytes -= line->len + sizeof(*line);
	free(line);
}

static void *
run_writer(void *arg)
{
	pthread_mutex_lock(&queue_lock);
	while (first != NULL || state == WRITER_RUNS)
	{
		tell_lost();
		if (first != NULL)
			write_first();
		else if (state == WRITER_RUNS && (lost == 0 || !full))
			pthread_cond_wait(&queue_wake, &queue_lock);
	}
	tell_lost();
	done = true;
	pthread_cond_signal(&queue_done);
	pthread_mutex_unlock(&queue_lock);
	return arg;
}

/* false: no room.  Caller holds queue_lock. */
static bool
queue_line(char *text, size_t len)
{
	Line *line;

	full = full || queued_bytes + len + sizeof(*line) > OUTBOX_LOG_QUEUE_BYTES;
	line = full ? NULL : malloc(sizeof(*line));
	if (line == NULL)
		return false;
	*line = (Line) {NULL, text, len};
	*last = line;
	last = &line->next;
	queued_bytes += len + sizeof(*line);
	pthread_cond_signal(&queue_wake);
	return true;
}

/*
 * Before the thread is there and after it.  Without queue_lock: what hangs here must not hold the
 * end.
 */
static bool
write_direct(const char *text, size_t len)
{
	bool good;

	pthread_mutex_lock(&direct_lock);
	good = write_line(text, len);
	pthread_mutex_unlock(&direct_lock);
	return good;
}

void
outbox_log_write(char *text, size_t len)
{
	bool direct;
	bool good;

	pthread_mutex_lock(&queue_lock);
	direct = state == WRITER_NONE || (state == WRITER_ENDS && done);
	good = !direct && state != WRITER_LEFT && queue_line(text, len);
	if (!good && !direct)
		lost++;
	pthread_mutex_unlock(&queue_lock);
	if (direct)
		good = write_direct(text, len);
	if (direct || !good)
		free(text);
	if (!good)
		count_lost(1);
}

void
outbox_log_writer_start(char *(*make_notice)(unsigned long lost))
{
	make_lost_notice = make_notice;
	count_lost(0);
	pthread_mutex_lock(&queue_lock);
	done = false;
	if (state == WRITER_NONE && pthread_create(&thread, NULL, run_writer, NULL) == 0)
		state = WRITER_RUNS;
	pthread_mutex_unlock(&queue_lock);
}

void
outbox_log_writer_stop(void)
{
	struct timespec until;
	bool			ended;

	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += END_SECONDS;
	pthread_mutex_lock(&queue_lock);
	if (state != WRITER_RUNS)
	{
		pthread_mutex_unlock(&queue_lock);
		return;
	}
	state = WRITER_ENDS;
	pthread_cond_signal(&queue_wake);
	while (!done && pthread_cond_clockwait(&queue_done, &queue_lock, CLOCK_MONOTONIC, &until) == 0)
		;
	ended = done;
	state = ended ? WRITER_NONE : WRITER_LEFT;
	pthread_mutex_unlock(&queue_lock);
	if (ended)
		pthread_join(thread, NULL);
}
