/* SPDX-License-Identifier: PostgreSQL
 *
 * wall_time.h
 *	  The wall clock, and a time of it as text.  Any thread.
 */
#ifndef OUTBOX_WALL_TIME_H
#define OUTBOX_WALL_TIME_H

#include <stdint.h>

#define OUTBOX_TIME_TEXT 32 /* room for a time as text */

/* Milliseconds since 1970. */
extern int64_t outbox_wall_ms(void);

/* Milliseconds since 1970 as ISO 8601, UTC, with milliseconds. */
extern void outbox_format_time(int64_t ms, char text[OUTBOX_TIME_TEXT]);

#endif /* OUTBOX_WALL_TIME_H */
