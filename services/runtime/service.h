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
#include "services/lib/http.h"
#include "services/lib/log.h"

/*
 * How a handler calls another system before its transaction.  Calls of a member run side by side,
 * each on a thread of its own, while the member goes on; the call has no database connection.  One
 * of a key is made after the one before it is done, none for a record that is processed or held.  A
 * call may be made again for the same record, also by another process and before an earlier one has
 * ended: it must bear to be repeated.
 */
typedef struct OutboxCallOut
{
	/*
	 * NULL or what a call must know of the database, asked for many at once: SELECT f($1::text[])
	 * gets their first values and returns a row of one text for each, in their order.  It commits,
	 * so it may note what is about to be called.
	 */
	const char *ask;

	/*
	 * After decode said CALL: calls, and fills in what the transaction needs
	 * (outbox_call_set_text). told is what ask answered, NULL: SQL NULL, or nothing is asked.  CALL
	 * also when there was nothing to call for; WAIT: the call is made again later, without end.
	 */
	OutboxVerdict (*run)(const OutboxRecord *record, const char *told, OutboxCall *call);
} OutboxCallOut;

typedef struct OutboxHandler
{
	const char *topic;
	const char *event_type; /* others on the topic are ignored; NULL: takes every type */

	/* Decode the record and fill the call.  Pure: no database, no network. */
	OutboxVerdict (*decode)(const OutboxRecord *record, OutboxCall *call);

	const OutboxCallOut *call_out; /* NULL: it calls no other system */
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
