/* SPDX-License-Identifier: PostgreSQL
 *
 * db_session.h
 *	  What db.c, db_session.c and db_notice.c share.
 *
 * A connection belongs to one thread; so do these.
 */
#ifndef OUTBOX_DB_SESSION_H
#define OUTBOX_DB_SESSION_H

#include <stdint.h>

#include "db.h"

#define OUTBOX_DB_NO_DEADLINE INT64_MAX

/* Notices of handlers that are logged in a window of time; further ones are counted. */
typedef struct OutboxNoticeLimit
{
	int64_t		  began; /* outbox_clock_ms; of the lock of who uses it */
	int			  taken;
	unsigned long left_out; /* and not told of yet */
} OutboxNoticeLimit;

/* Is a notice to be logged?  *left_out: so many were not, before it; else 0. */
extern bool outbox_notice_take(OutboxNoticeLimit *limit, int64_t now, unsigned long *left_out);

/* db_notice.c: libpq's notice receiver, arg is the OutboxDb. */
extern void outbox_db_take_notice(void *arg, const PGresult *result);

/* db.c: closes the connection, if any, and forgets what was of it. */
extern void outbox_db_drop(OutboxDb *db);

/*
 * db.c: the result of what was `sent` (1; else it was not), the last one's of several statements.
 * NULL: none came before the deadline (outbox_clock_ms); db->error says so, the connection is
 * dropped.
 */
extern PGresult *outbox_db_await(OutboxDb *db, int sent, int64_t deadline);

/* db.c: takes the failure from a result, or from the connection when result is NULL. */
extern void outbox_db_take_error(OutboxDb *db, const PGresult *result);

#endif /* OUTBOX_DB_SESSION_H */
