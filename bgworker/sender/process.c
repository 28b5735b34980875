/* SPDX-License-Identifier: PostgreSQL
 *
 * process.c
 *	  The process: its log line, clock, pauses and end.
 *
 * Runs in the sender.
 */
#include "process.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>

#include "src/common/text.h"

#define LONG_TEXT_SIZE 4096 /* before it is cut to what it must fit into */

static atomic_uint left_out; /* lines since the last one that was written */

/* One write of less than PIPE_BUF: the whole line or, where the relay does not read, none of it. */
static bool
put_line(const char *text)
{
	struct iovec parts[2] = {{(char *) text, strlen(text)}, {"\n", 1}};

	return writev(2, parts, 2) == (ssize_t) (parts[0].iov_len + 1);
}

/*
 * One line for the server's log, which the relay writes there.  Never waits: what a full pipe does
 * not take is left out, and counted in a later line.
 */
void
outbox_process_log(const char *format, ...)
{
	char	 text[LONG_TEXT_SIZE];
	char	 line[1024];
	unsigned missing = atomic_exchange(&left_out, 0);
	va_list	 args;
	char	*at;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	outbox_text_fit(line, sizeof(line), text);
	for (at = line; *at != '\0'; at++)
		if (*at == '\n' || *at == '\r')
			*at = ' ';
	if (missing > 0)
	{
		snprintf(text, sizeof(text), "%u lines are left out here: the relay did not read", missing);
		if (put_line(text))
			missing = 0;
	}
	if (missing > 0 || !put_line(line))
		atomic_fetch_add(&left_out, missing + 1);
}

/* Monotonic microseconds. */
int64_t
outbox_clock_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t) now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

/* 10 ms. */
void
outbox_pause_briefly(void)
{
	struct timespec pause = {.tv_nsec = 10 * 1000 * 1000};

	nanosleep(&pause, NULL);
}

/* Never returns. */
void
outbox_exit_out_of_memory(void)
{
	outbox_process_log("out of memory");
	exit(1);
}
