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

/* Main thread, when the settings are read.  false: a thread or memory was refused. */
extern bool outbox_letters_start(void);
extern void outbox_letters_stop(void);

/* The answer of GET /dead-letters; the caller releases it.  Any thread. */
extern json_t *outbox_letters_json(void);

/* Gauges as Prometheus text.  Any thread. */
extern void outbox_letters_write(FILE *out);

#endif /* OUTBOX_LETTERS_H */
