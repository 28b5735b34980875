/* SPDX-License-Identifier: PostgreSQL
 *
 * db_session.c
 *	  A session: made, found dead before it is used, its settings, what is between it and the
 *	  server.
 *
 * Runs in the services, on the thread that owns the connection.  A pooler that gives every
 * transaction another session (PgBouncer with pool_mode = transaction or statement) cannot be
 * worked with: prepared statements and settings would be left in sessions of other applications.
 * It is found before anything is set.  Behind a pooler the number of the server's process is
 * another one than the connection was told.  Then two connections ask for it by turns: sessions
 * that are their own never change it.
 */
#define _GNU_SOURCE
#include "db_session.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "db_notice.h"

#define SETTINGS_MS 5000 /* for the first statement of a session */
#define SPARE_MS	2000 /* another connection may have to wait for a session of the pool */
#define PROBES		32 /* in a pool of others' it is not by chance that all of them find the same */
#define UNREAD_MAX	1000 /* messages of an idle session that are looked at */

/*
 * A member that is frozen, or whose host is gone, must not keep its locks: the server ends its
 * session.
 */
#define LOCK_TIMEOUT_MAX_MS 10000 /* waiting for a lock is no failure of the record */

/*
 * $1 the process this connection leads to, or NULL for whichever it is; $2, $3 milliseconds.  No
 * row: it is another one.  Besides the limits: what the runtime's own statements count on, whatever
 * the role or the database is given with ALTER ... SET: arrays with NULLs, what is seen of others'
 * commits, sessions that live on, the warning that another process has crashed.  All else is left
 * to the handlers.
 */
static const char settings_sql[] =
	"SELECT pg_catalog.set_config(s.name, s.setting, false) FROM (VALUES"
	" ('idle_in_transaction_session_timeout', '10s'), ('tcp_keepalives_idle', '10'), "
	"('tcp_keepalives_interval', '5'),"
	" ('tcp_keepalives_count', '3'), ('statement_timeout', $2), ('lock_timeout', $3), "
	"('transaction_timeout', '0'),"
	" ('idle_session_timeout', '0'), ('exit_on_error', 'off'), ('array_nulls', 'on'), "
	"('extra_float_digits', '1'),"
	" ('default_transaction_isolation', 'read committed'), ('client_min_messages', 'warning')) s "
	"(name, setting)"
	" WHERE CASE s.name WHEN 'client_min_messages' THEN pg_catalog.current_setting(s.name) "
	"OPERATOR(pg_catalog.=) 'error'"
	"  ELSE pg_catalog.current_setting(s.name, true) IS NOT NULL END AND ($1::pg_catalog.int4 IS "
	"NULL OR $1::pg_catalog.int4 OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid())";
static const char process_sql[] = "SELECT pg_catalog.pg_backend_pid()";
static const char read_only_sql[] = "SELECT pg_catalog.current_setting('transaction_read_only')";

/*
 * The SQLSTATE with which a server has refused the session, as libpq's message has it when it is
 * told to be verbose ("FATAL:  28P01: ...", severity in any language); "" when there is none.
 */
static void
find_sqlstate(const char *message, char sqlstate[6])
{
	static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ";

	sqlstate[0] = '\0';
	while ((message = strstr(message, ":  ")) != NULL)
	{
		message += 3;
		if (strspn(message, digits) == 5 && message[5] == ':')
			snprintf(sqlstate, 6, "%.5s", message);
	}
}

/*
 * PgBouncer knows no other code than 08P01; these are of its configuration and ours, not of a
 * server that is away.
 */
static bool
is_misconfigured(const char *message)
{
	return strstr(message, "unsupported startup parameter") != NULL ||
		strstr(message, "no such database") != NULL || strstr(message, "no such user") != NULL;
}

/*
 * db->conn is not connected: tries once more to learn the code when a server has said no.  Returns
 * whether it is now.
 */
static bool
explain_refusal(OutboxDb *db)
{
	char sqlstate[6] = "";

	outbox_error_set(&db->error, OUTBOX_FAILURE_INFRASTRUCTURE, OUTBOX_DB_LOST,
					 PQerrorMessage(db->conn));
	if (strstr(db->error.message, ":  ") == NULL)
		return false; /* not a server's words */
	PQsetErrorVerbosity(db->conn, PQERRORS_VERBOSE);
	PQreset(db->conn);
	PQsetErrorVerbosity(db->conn, PQERRORS_DEFAULT);
	if (PQstatus(db->conn) == CONNECTION_OK)
		return true;
	find_sqlstate(PQerrorMessage(db->conn), sqlstate);
	if (sqlstate[0] != '\0' &&
		(outbox_failure_classify(sqlstate) == OUTBOX_FAILURE_DEPLOY ||
		 (strcmp(sqlstate, "08P01") == 0 && is_misconfigured(db->error.message))))
	{
		db->error.failure = OUTBOX_FAILURE_DEPLOY;
		memcpy(db->error.sqlstate, sqlstate, sizeof(sqlstate));
	}
	return false;
}

/*
 * Connects db->conn, which is none; attributes: target_session_attrs unless the user's conninfo
 * says otherwise.
 */
static bool
try_connection(OutboxDb *db, const char *attributes)
{
	/*
	 * Later entries win: the user's conninfo over the defaults before it; but all text here is
	 * UTF-8.
	 */
	const char *keywords[] = {"connect_timeout",	  "keepalives_idle",
							  "keepalives_interval",  "keepalives_count",
							  "tcp_user_timeout",	  "fallback_application_name",
							  "target_session_attrs", "dbname",
							  "client_encoding",	  NULL};
	const char *values[] = {"5",		"10",		  "5",	  "3", "30000", "outbox consumer",
							attributes, db->conninfo, "UTF8", NULL};

	outbox_db_drop(db);
	db->conn = PQconnectdbParams(keywords, values, 1);
	return PQstatus(db->conn) == CONNECTION_OK;
}

/*
 * No host could be written, as it said at the connection's start (db->error).  There a pooler tells
 * what its first session was told, before the server was promoted: the server itself is asked.
 */
static bool
find_writable(OutboxDb *db)
{
	PGresult *result = NULL;
	bool	  writable;

	if (strstr(db->error.message, "read-only") == NULL || !try_connection(db, "any"))
		return false;
	result =
		outbox_db_await(db, PQsendQuery(db->conn, read_only_sql), outbox_clock_ms() + SETTINGS_MS);
	writable =
		result != NULL && PQntuples(result) == 1 && strcmp(PQgetvalue(result, 0, 0), "off") == 0;
	PQclear(result);
	return writable;
}

/* A new connection.  false: db->error, and db->conn is NULL. */
static bool
open_connection(OutboxDb *db)
{
	db->error.ended = false;
	if (!try_connection(db, db->reads ? "any" : "read-write") && !explain_refusal(db) &&
		!find_writable(db))
	{
		outbox_db_drop(db);
		return false;
	}
	PQsetNoticeReceiver(db->conn, outbox_db_take_notice, db);
	return true;
}

/* The number of the server's process that answers now; 0: none before the deadline. */
static int
ask_process(OutboxDb *db, int64_t deadline)
{
	PGresult *result =
		db->conn == NULL ? NULL : outbox_db_await(db, PQsendQuery(db->conn, process_sql), deadline);
	int process = 0;

	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK && PQntuples(result) == 1)
		process = atoi(PQgetvalue(result, 0, 0));
	PQclear(result);
	return process;
}

/* What a pooler gives its clients. */
typedef enum PoolerKind
{
	/*
	 * a session of its own, or nothing else is shown: there is none to spare for a second
	 * connection
	 */
	POOLER_KEEPS,
	POOLER_SHARES, /* one session now and another one then */
	POOLER_SILENT, /* it does not answer */
} PoolerKind;

/* Both have answered once: whose sessions are their own never have others. */
static PoolerKind
compare_sessions(OutboxDb *db, int own, OutboxDb *other, int others)
{
	int64_t	   deadline = outbox_clock_ms() + SETTINGS_MS;
	PoolerKind kind = own == others ? POOLER_SHARES : POOLER_KEEPS;

	/* In the order db, other, other, db. */
	for (int i = 0; i < PROBES && kind == POOLER_KEEPS; i++)
	{
		bool first = i % 4 == 0 || i % 4 == 3;
		int	 process = ask_process(first ? db : other, deadline);

		if (process == 0)
			kind = POOLER_SILENT;
		else if (process != (first ? own : others))
			kind = POOLER_SHARES;
	}
	return kind;
}

static PoolerKind
probe_pooler(OutboxDb *db)
{
	OutboxDb   other;
	int		   own = ask_process(db, outbox_clock_ms() + SETTINGS_MS);
	int		   others = 0;
	PoolerKind kind = POOLER_KEEPS;

	if (own == 0 || !outbox_db_open(&other, db->conninfo, 0))
		return POOLER_SILENT;
	other.reads = db->reads;
	if (open_connection(&other))
		others = ask_process(&other, outbox_clock_ms() + SPARE_MS);
	if (others != 0)
		kind = compare_sessions(db, own, &other, others);
	outbox_db_close(&other);
	return kind;
}

/*
 * Sets what the session needs, if it is that of `process` (NULL: whichever).  Returns the rows: 0,
 * it is another one; -1: db->error.
 */
static int
set_session(OutboxDb *db, const char *process)
{
	long		lock_timeout_ms = LOCK_TIMEOUT_MAX_MS;
	char		limits[2][24];
	const char *values[3] = {process, limits[0], limits[1]};
	PGresult   *result;
	int			rows = -1;

	if (db->statement_timeout_ms > 0 && db->statement_timeout_ms / 2 < lock_timeout_ms)
		lock_timeout_ms = (db->statement_timeout_ms + 1) / 2;
	snprintf(limits[0], sizeof(limits[0]), "%ld", db->statement_timeout_ms);
	snprintf(limits[1], sizeof(limits[1]), "%ld", lock_timeout_ms);
	result =
		outbox_db_await(db,
						PQsendQueryParams(db->conn, settings_sql, 3, NULL, values, NULL, NULL, 0),
						outbox_clock_ms() + SETTINGS_MS);
	if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK)
		rows = PQntuples(result);
	else if (result != NULL)
		outbox_db_take_error(db, result);
	PQclear(result);
	return rows;
}

/* false: db->error. */
static bool
begin_session(OutboxDb *db)
{
	char process[16];
	int	 rows;

	snprintf(process, sizeof(process), "%d", PQbackendPID(db->conn));
	rows = set_session(db, process);
	if (rows != 0)
		return rows > 0;
	db->pooled = true;
	switch (probe_pooler(db))
	{
		case POOLER_KEEPS:
			return set_session(db, NULL) > 0;
		case POOLER_SHARES:
			outbox_db_refuse_pooler(db);
			break;
		case POOLER_SILENT:
			outbox_error_set(&db->error, OUTBOX_FAILURE_INFRASTRUCTURE, OUTBOX_DB_LOST,
							 "the pooler did not answer in time");
			break;
	}
	return false;
}

/*
 * Has an idle session ended?  What the server has sent meanwhile, its last words or a notice, is
 * read.
 */
static bool
has_ended(PGconn *conn)
{
	struct pollfd socket = {PQsocket(conn), POLLIN, 0};

	for (int i = 0; i < UNREAD_MAX && poll(&socket, 1, 0) > 0; i++)
	{
		if (PQconsumeInput(conn) == 0)
			return true;
		PQfreemem(PQnotifies(conn));
	}
	return PQstatus(conn) != CONNECTION_OK;
}

/* A function that was called may have changed it. */
static bool
is_utf8(const PGconn *conn)
{
	const char *encoding = PQparameterStatus(conn, "client_encoding");

	return encoding != NULL && strcmp(encoding, "UTF8") == 0;
}

bool
outbox_db_connect(OutboxDb *db)
{
	if (db->conn != NULL && !db->stale && PQstatus(db->conn) == CONNECTION_OK &&
		PQtransactionStatus(db->conn) == PQTRANS_IDLE && is_utf8(db->conn) && !has_ended(db->conn))
		return true;
	if (open_connection(db) && begin_session(db))
		return true;
	outbox_db_drop(db);
	return false;
}
