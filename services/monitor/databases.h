/* SPDX-License-Identifier: PostgreSQL
 *
 * databases.h
 *	  What the databases of the setting `databases` tell: dead letters, topics held apart.
 *
 * A thread of its own asks, so that a database that hangs delays no poll of Kafka.
 */
#ifndef OUTBOX_DATABASES_H
#define OUTBOX_DATABASES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>

/* Main thread, when the settings are read.  false: a thread or memory was refused. */
extern bool outbox_databases_start(void);
extern void outbox_databases_stop(void);

/* The answers of GET /dead-letters and /topic-holds; the caller releases them.  Any thread. */
extern json_t *outbox_databases_letters_json(void);
extern json_t *outbox_databases_holds_json(void);

/* Gauges as Prometheus text.  Any thread. */
extern void outbox_databases_write(FILE *out);

#endif /* OUTBOX_DATABASES_H */
