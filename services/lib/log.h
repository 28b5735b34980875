/* SPDX-License-Identifier: PostgreSQL
 *
 * log.h
 *	  JSON lines on standard error: ts, level, service, event, what a caller adds, msg.
 */
#ifndef OUTBOX_LOG_H
#define OUTBOX_LOG_H

#include <jansson.h>
#include <stdarg.h>
#include <stdbool.h>

typedef enum OutboxLogLevel
{
	OUTBOX_LOG_DEBUG,
	OUTBOX_LOG_INFO,
	OUTBOX_LOG_WARNING,
	OUTBOX_LOG_ERROR,
} OutboxLogLevel;

/* Set once before the threads start; service must live as long as the process. */
extern void outbox_log_setup(const char *service, OutboxLogLevel threshold);

/*
 * From here on a thread writes the lines, so that nobody who logs waits for who reads; what nobody
 * takes in time is counted and told of (log_writer.h).  Before it, lines are written by who logs.
 * Once, main thread.
 */
extern void outbox_log_start(void);

/*
 * Writes what waits, two seconds at most; for who ends the process with _exit.  exit() does the
 * same.
 */
extern void outbox_log_stop(void);

/* Names of the levels, in their order; ended by NULL. */
extern const char *const outbox_log_level_names[];

/* One line.  event is a short stable name.  Any thread. */
extern void outbox_log(OutboxLogLevel level, const char *event, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/* The same with what stands between event and msg: an object, taken over; NULL: nothing. */
extern void outbox_log_fields(OutboxLogLevel level, const char *event, json_t *fields,
							  const char *format, va_list arguments);

/* Are lines of this level written? */
extern bool outbox_log_wants(OutboxLogLevel level);

/* Text that may not be UTF-8, as a JSON string. */
extern json_t *outbox_log_text(const char *text);

#endif /* OUTBOX_LOG_H */
