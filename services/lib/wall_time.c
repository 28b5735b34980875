/* SPDX-License-Identifier: PostgreSQL
 *
 * wall_time.c
 *	  The wall clock, and a time of it as text.
 *
 * Runs in the services, any thread.
 */
#include "wall_time.h"

#include <stdio.h>
#include <time.h>

int64_t
outbox_wall_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	return (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void
outbox_format_time(int64_t ms, char text[OUTBOX_TIME_TEXT])
{
	time_t	  seconds = (time_t) (ms / 1000);
	struct tm utc;
	size_t	  used;

	gmtime_r(&seconds, &utc);
	used = strftime(text, OUTBOX_TIME_TEXT, "%Y-%m-%dT%H:%M:%S", &utc);
	snprintf(text + used, OUTBOX_TIME_TEXT - used, ".%03dZ", (int) (ms % 1000));
}
