/* SPDX-License-Identifier: PostgreSQL
 *
 * process.c
 *	  The process: its log line, clock, pauses and end.
 *
 * Runs in the sender.
 */
#include "process.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "src/common/text.h"

#define LONG_TEXT_SIZE 4096 /* before it is cut to what it must fit into */

/* One line on stderr, which the relay's server log receives. */
void
outbox_process_log(const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	char	line[1024];
	va_list args;
	char   *at;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	outbox_text_fit(line, sizeof(line), text);
	for (at = line; *at != '\0'; at++)
		if (*at == '\n' || *at == '\r')
			*at = ' ';
	fprintf(stderr, "outbox-sender: %s\n", line);
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
