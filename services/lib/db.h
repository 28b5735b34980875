/* SPDX-License-Identifier: PostgreSQL
 *
 * db.h
 *	  One connection to the service's database, in libpq's pipeline mode.
 *
 * A connection belongs to one thread.  All calls return false or NULL on
 * failure and leave what went wrong in db->error.
 */
#ifndef OUTBOX_DB_H
#define OUTBOX_DB_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "failure.h"

#define OUTBOX_DB_STATEMENTS  48
#define OUTBOX_DB_NO_DEADLINE INT64_MAX
#define OUTBOX_DB_LOST		  "08006" /* SQLSTATE of a connection that is gone */

typedef struct OutboxDb
{
	PGconn	   *conn; /* NULL: not connected */
	char	   *conninfo;
	long		statement_timeout_ms;
	const char *prepared[OUTBOX_DB_STATEMENTS]; /* by address of the SQL text */
	int			prepared_count;
	bool		stale;	   /* the next use needs a new session */
	bool		pooled;	   /* the session is a pooler's */
	bool		reads;	   /* a standby or read-only session will do; set after outbox_db_open */
	char		warned[6]; /* SQLSTATE of the server's warning that it ends the session; "" */
	OutboxError error;
} OutboxDb;

extern bool outbox_db_open(OutboxDb *db, const char *conninfo, long statement_timeout_ms);
extern void outbox_db_close(OutboxDb *db);

/* Closes the connection, if any, and forgets what was of it. */
extern void outbox_db_drop(OutboxDb *db);

/* The next outbox_db_connect (db_session.h) makes a new session. */
extern void outbox_db_renew(OutboxDb *db);

/*
 * The failure is that of a pooler that gives every transaction another session; the next use needs
 * a new one.
 */
extern void outbox_db_refuse_pooler(OutboxDb *db);

/* Takes the failure from a result, or from the connection when result is NULL. */
extern void outbox_db_take_error(OutboxDb *db, const PGresult *result);

/*
 * The result of what was `sent` (1; else it was not), the last one's of several statements.  NULL:
 * none came before the deadline (outbox_clock_ms); db->error says so, the connection is dropped.
 */
extern PGresult *outbox_db_await(OutboxDb *db, int sent, int64_t deadline);

/* Prepares sql (a string constant: known by its address) unless it is; outside a pipeline. */
extern bool outbox_db_prepare(OutboxDb *db, const char *sql);

/* One statement outside a pipeline; NULL on failure, else the caller clears the result. */
extern PGresult *outbox_db_query(OutboxDb *db, const char *sql, int count,
								 const char *const *values);

/*
 * The same, waiting for the server ms at most, whatever it is doing: a stopped or frozen one does
 * not see to statement_timeout.  Past that the failure is infrastructure and the connection
 * dropped.
 */
extern PGresult *outbox_db_query_within(OutboxDb *db, const char *sql, int count,
										const char *const *values, long ms);

/* The pipeline.  sql must have been prepared, or is BEGIN, COMMIT (count 0). */
extern bool outbox_db_begin_pipeline(OutboxDb *db);
extern bool outbox_db_send(OutboxDb *db, const char *sql, int count, const char *const *values);
extern bool outbox_db_sync(OutboxDb *db);

/*
 * The next statement's result, or NULL when it failed (db->error) or was
 * skipped because an earlier one had failed (*skipped).
 */
extern PGresult *outbox_db_result(OutboxDb *db, bool *skipped);

/* Reads up to the sync.  false: the connection is lost. */
extern bool outbox_db_finish_sync(OutboxDb *db);

/* Leaves the pipeline, rolling back an open transaction. */
extern void outbox_db_end_pipeline(OutboxDb *db);

#endif /* OUTBOX_DB_H */
