/* SPDX-License-Identifier: PostgreSQL
 *
 * function.h
 *	  The setting function: "schema.function", each part an SQL identifier, quoted or not.
 *
 * Runs in outbox-consume at start, main thread; what it makes is only read after that.
 */
#ifndef OUTBOX_FUNCTION_H
#define OUTBOX_FUNCTION_H

#include <stdbool.h>
#include <stddef.h>

/* Option check. */

extern bool consume_check_function(const char *value, char *error, size_t size);

/* The statement that calls it; never freed.  bytes: f(outbox.consumed_bytes). */
extern const char *consume_make_sql(const char *function, bool bytes);

/*
 * Does the database have the function, as it must be, with the right to call it?  false: it does
 * not, logged.  A database that is away is logged too, and counts as true.
 */
extern bool consume_check_database(const char *conninfo, const char *function, bool bytes);

#endif /* OUTBOX_FUNCTION_H */
