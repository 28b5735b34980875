/* SPDX-License-Identifier: PostgreSQL
 *
 * call.h
 *	  For handlers: JSON in, one SQL call out.
 */
#ifndef OUTBOX_CALL_H
#define OUTBOX_CALL_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "services/kafka/record.h"
#include "services/lib/failure.h"

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

/*
 * Starts the call, sql as in OutboxCall; values are copied, and added in the order of the SQL
 * parameters, OUTBOX_CALL_VALUES at most.
 */
extern void outbox_call_begin(OutboxCall *call, const char *sql);
extern void outbox_call_add(OutboxCall *call, const char *value, size_t len);
extern void outbox_call_add_text(OutboxCall *call, const char *value); /* NULL: SQL NULL */
extern void outbox_call_add_bytes(OutboxCall *call, const uint8_t *value, size_t len); /* bytea */

/*
 * Replaces a value that was added, e.g. after a call to another system one for which decode kept
 * the place; index from 0.
 */
extern void outbox_call_set_text(OutboxCall *call, int index, const char *value);

/* Frees the values; the call is as before outbox_call_begin. */
extern void outbox_call_clear(OutboxCall *call);

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

#endif /* OUTBOX_CALL_H */
