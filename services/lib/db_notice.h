/* SPDX-License-Identifier: PostgreSQL
 *
 * db_notice.h
 *	  What a server says besides its answers.
 */
#ifndef OUTBOX_DB_NOTICE_H
#define OUTBOX_DB_NOTICE_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>

/* Notices of handlers that are logged in a window of time; further ones are counted. */
typedef struct OutboxNoticeLimit
{
	int64_t		  began; /* outbox_clock_ms; of the lock of who uses it */
	int			  taken;
	unsigned long left_out; /* and not told of yet */
} OutboxNoticeLimit;

/* Is a notice to be logged?  *left_out: so many were not, before it; else 0. */
extern bool outbox_notice_take(OutboxNoticeLimit *limit, int64_t now, unsigned long *left_out);

/* libpq's notice receiver; arg is the OutboxDb, whose thread calls it. */
extern void outbox_db_take_notice(void *arg, const PGresult *result);

#endif /* OUTBOX_DB_NOTICE_H */
