/* SPDX-License-Identifier: PostgreSQL
 *
 * service.h
 *	  What a service gives the runtime: topics with their handlers, options,
 *	  HTTP routes.  docs/consumers.md shows a whole one.
 */
#ifndef OUTBOX_SERVICE_H
#define OUTBOX_SERVICE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "call.h"
#include "services/kafka/record.h"
#include "services/lib/config.h"
#include "services/lib/db.h"
#include "services/lib/http.h"
#include "services/lib/log.h"

typedef struct OutboxHandler
{
	const char *topic;
	const char *event_type; /* others on the topic are ignored; NULL: takes every type */

	/* Decode the record and fill the call.  Pure: no database, no network. */
	OutboxVerdict (*decode)(const OutboxRecord *record, OutboxCall *call);

	/*
	 * NULL or, after decode said CALL, what must happen before the transaction, e.g. a request to
	 * another system.  May be called again for the same record, and before it is known whether the
	 * record was done already or waits behind a dead letter of its key: what it does must bear to
	 * be repeated and to come early.  WAIT pauses the partition, without end.  db is connected and
	 * idle.
	 */
	OutboxVerdict (*prepare)(OutboxDb *db, const OutboxRecord *record, OutboxCall *call);
} OutboxHandler;

typedef struct OutboxService
{
	const char			*name;	  /* program name, e.g. "outbox-payment" */
	const char			*summary; /* one line for --help */
	const char			*group;	  /* default consumer group, also the consumer's name; NULL: none */
	const char			*http_port; /* default; NULL: none */
	const OutboxHandler *handlers;	/* ended by a NULL topic; NULL: made by make_handlers */
	const OutboxOption	*options;	/* NULL or ended by a NULL name */
	const OutboxRoute	*routes;	/* NULL or ended by a NULL method */

	/*
	 * NULL or called once, when the settings are read, before anything starts; false ends the
	 * program.
	 */
	bool (*start)(void);

	/*
	 * NULL or, where handlers is NULL, makes them from the settings, once, before anything
	 * starts.  NULL (logged): the settings do not fit, the program ends with code 2.
	 */
	const OutboxHandler *(*make_handlers)(void);
} OutboxService;

/* The whole program; returns its exit code (0 done, 1 failed, 2 wrong settings). */
extern int outbox_service_main(int argc, char **argv, const OutboxService *service);

#endif /* OUTBOX_SERVICE_H */
