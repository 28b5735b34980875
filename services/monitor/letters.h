/* SPDX-License-Identifier: PostgreSQL
 *
 * letters.h
 *	  How many dead letters wait in the databases of the setting `databases`.
 *
 * A thread of its own asks, so that a database that hangs delays no poll of Kafka.
 */
#ifndef OUTBOX_LETTERS_H
#define OUTBOX_LETTERS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* Option check: connection strings, one a line; any character may be in one. */
extern bool outbox_letters_check(const char *value, char *error, size_t size);

/* Connects to each: 0, or an exit code as OutboxProgram.check_online, with the reason. */
extern int outbox_letters_check_online(const char *databases, char *error, size_t size);

/* databases: see outbox_letters_check; threshold: open letters of one consumer and topic. */
extern bool outbox_letters_start(const char *databases, const char *cluster, long threshold,
								 long poll_seconds);
extern void outbox_letters_stop(void);

/* The answer of GET /dead-letters; the caller releases it.  Any thread. */
extern json_t *outbox_letters_json(void);

/* Gauges as Prometheus text.  Any thread. */
extern void outbox_letters_write(FILE *out);

#endif /* OUTBOX_LETTERS_H */
