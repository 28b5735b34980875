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

#include "services/kafka/record.h"
#include "services/lib/config.h"
#include "services/lib/db.h"
#include "services/lib/http.h"
#include "services/lib/log.h"

#define OUTBOX_CALL_VALUES 12

/* What is to be done with a record. */
typedef enum OutboxVerdict
{
	OUTBOX_VERDICT_CALL,   /* run the call in the batch's transaction */
	OUTBOX_VERDICT_IGNORE, /* not ours: step over it */
	OUTBOX_VERDICT_REJECT, /* can never succeed: dead letter at once (call->error) */
	OUTBOX_VERDICT_FAIL,   /* failed: counts as a try (call->error) */
	OUTBOX_VERDICT_WAIT,   /* something needed is away: try later, count nothing (call->error) */
} OutboxVerdict;

/* The one SQL call a record becomes; it returns one text, the outcome for the metrics. */
typedef struct OutboxCall
{
	/* SELECT f($1, ...), without a FROM; known by its address, lives as long as the program */
	const char *sql;
	int			count;
	char	   *values[OUTBOX_CALL_VALUES]; /* malloc'ed text; NULL: SQL NULL */
	OutboxError error;
} OutboxCall;

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

	/* NULL or called once, when the settings are read, before anything starts; false ends the
	 * program. */
	bool (*start)(void);

	/*
	 * NULL or, where handlers is NULL, makes them from the settings, once, before anything
	 * starts.  NULL (logged): the settings do not fit, the program ends with code 2.
	 */
	const OutboxHandler *(*make_handlers)(void);
} OutboxService;

/* The whole program; returns its exit code (0 done, 1 failed, 2 wrong settings). */
extern int outbox_service_main(int argc, char **argv, const OutboxService *service);

/*
 * call.c: for handlers
 */

/* Starts the call; values are added in the order of the SQL parameters. */
extern void outbox_call_begin(OutboxCall *call, const char *sql);
extern void outbox_call_add(OutboxCall *call, const char *value, size_t len);
extern void outbox_call_add_text(OutboxCall *call, const char *value); /* NULL: SQL NULL */
extern void outbox_call_add_bytes(OutboxCall *call, const uint8_t *value, size_t len); /* bytea */

/* Replaces a value that was added, e.g. in prepare one for which decode kept the place; index from
 * 0. */
extern void outbox_call_set_text(OutboxCall *call, int index, const char *value);
extern void outbox_call_clear(OutboxCall *call);

/*
 * malloc'ed text of bytea, \x..., the second of a text's UTF-8 for outbox.wire_text; NULL for NULL.
 */
extern char *outbox_bytea_text(const uint8_t *data, size_t len);
extern char *outbox_bytea_of_text(const char *text);

/*
 * Sets call->error and returns the verdict that goes with it; a rejected record's class is decode.
 */
extern OutboxVerdict outbox_call_reject(OutboxCall *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern OutboxVerdict outbox_call_fail(OutboxCall *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern OutboxVerdict outbox_call_wait(OutboxCall *call, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

/* The value as a JSON object; NULL with call->error set when it is none. */
extern json_t *outbox_decode_object(const OutboxRecord *record, OutboxCall *call);

/* Required fields; false with call->error set when one is missing or of another kind. */
extern bool outbox_decode_require(const json_t *object, const char *name, json_type type,
								  OutboxCall *call);

/* The whole decoding of an event that needs one text field: sql is called with the value as $1. */
extern OutboxVerdict outbox_decode_call(const OutboxRecord *record, const char *required,
										const char *sql, OutboxCall *call);

#endif /* OUTBOX_SERVICE_H */
