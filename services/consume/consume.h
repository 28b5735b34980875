/* SPDX-License-Identifier: PostgreSQL
 *
 * consume.h
 *	  The parts of outbox-consume: its topics, its SQL function, and how a
 *	  record becomes the function's argument.
 *
 * Runs in outbox-consume.  All state is written by the make functions, before
 * the threads start, and only read after that.
 */
#ifndef OUTBOX_CONSUME_H
#define OUTBOX_CONSUME_H

#include "services/runtime/service.h"

/* topics.c: "topic, topic:EventType, ..." */

extern bool consume_check_topics(const char *value, char *error, size_t size);

/* The handlers of a text that was checked, ended by a NULL topic; never freed. */
extern const OutboxHandler *consume_make_handlers(const char *topics,
												  OutboxVerdict (*decode)(const OutboxRecord
																					 *record,
																		  OutboxCall *call));

/* function.c: "schema.function", each part an SQL identifier, quoted or not */

extern bool consume_check_function(const char *value, char *error, size_t size);

/* The statement that calls it; never freed.  bytes: f(outbox.consumed_bytes). */
extern const char *consume_make_sql(const char *function, bool bytes);

/*
 * Does the database have the function, as it must be, with the right to call it?  false: it does
 * not, logged.  A database that is away is logged too, and counts as true.
 */
extern bool consume_check_database(const char *conninfo, const char *function, bool bytes);

/* event.c: adds the values of consume_make_sql; false: not of that form, call->error says why */
extern bool consume_add_event(const OutboxRecord *record, bool bytes, OutboxCall *call);

#endif /* OUTBOX_CONSUME_H */
