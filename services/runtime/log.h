/* SPDX-License-Identifier: PostgreSQL
 *
 * log.h
 *	  JSON lines on standard error: ts, level, service, event, topic, partition,
 *	  offset, event_id, correlation_id, trace_id, msg.
 */
#ifndef OUTBOX_LOG_H
#define OUTBOX_LOG_H

#include <stdbool.h>

struct OutboxRecord;

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
 * From here on a thread writes the lines, so that nobody who logs waits for who reads; what nobody takes in time is
 * counted and told of (log_writer.h).  Before it, lines are written by who logs.  Once, main thread.
 */
extern void outbox_log_start(void);

/* Writes what waits, two seconds at most; for who ends the process with _exit.  exit() does the same. */
extern void outbox_log_stop(void);

/* "debug", "info", "warning", "error"; false for anything else */
extern bool outbox_log_level_parse(const char *name, OutboxLogLevel *level);

/* One line.  event is a short stable name; record (NULL allowed) adds its place.  Any thread. */
extern void outbox_log(OutboxLogLevel level, const char *event, const struct OutboxRecord *record,
					   const char *format,...) __attribute__((format(printf, 4, 5)));

#endif							/* OUTBOX_LOG_H */
