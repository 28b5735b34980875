/* SPDX-License-Identifier: PostgreSQL
 *
 * db.c
 *	  A connection: its errors, prepared statements, pipeline.
 *
 * Runs in the services, on the thread that owns the connection.
 */
#define _GNU_SOURCE
#include "db.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"

#define POLL_MAX_MS 60000

static const char shared_text[] =
	"the connection goes through a pooler that gives every transaction another session (PgBouncer: "
	"pool_mode = transaction or"
	" statement), or a session with what its last user has left in it (server_reset_query); the "
	"service needs pool_mode = session"
	" and DISCARD ALL for this database or user, or a connection to the server itself";

/*
 * PostgreSQL 15 has a SQLSTATE of class deploy for an escape in JSON that the database has no
 * character for, when it has no conversion at all (SQL_ASCII).
 */
static bool
is_unknown_character(const PGresult *result, const char *sqlstate)
{
	const char *function =
		result != NULL ? PQresultErrorField(result, PG_DIAG_SOURCE_FUNCTION) : NULL;

	return sqlstate != NULL && strcmp(sqlstate, "0A000") == 0 && function != NULL &&
		strcmp(function, "pg_unicode_to_server") == 0;
}

void
outbox_db_refuse_pooler(OutboxDb *db)
{
	outbox_error_set(&db->error, OUTBOX_FAILURE_DEPLOY, "0A000", shared_text);
	db->stale = true;
}

void
outbox_db_take_error(OutboxDb *db, const PGresult *result)
{
	const char *sqlstate = result != NULL ? PQresultErrorField(result, PG_DIAG_SQLSTATE) : NULL;
	const char *primary =
		result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY) : NULL;
	const char *detail = result != NULL ? PQresultErrorField(result, PG_DIAG_MESSAGE_DETAIL) : NULL;
	const char *severity =
		result != NULL ? PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED) : NULL;
	char text[1024];

	if (result == NULL && db->error.ended)
		return; /* the server has said why */
	if (PQstatus(db->conn) == CONNECTION_BAD && sqlstate == NULL)
		sqlstate = db->warned[0] != '\0' ? db->warned : OUTBOX_DB_LOST;
	if (primary == NULL)
		primary = PQerrorMessage(db->conn);
	snprintf(text, sizeof(text), "%s%s%s", primary, detail != NULL ? ": " : "",
			 detail != NULL ? detail : "");
	outbox_error_set(&db->error,
					 is_unknown_character(result, sqlstate) ? OUTBOX_FAILURE_DECODE :
															  outbox_failure_classify(sqlstate),
					 sqlstate, text);
	db->error.ended = PQstatus(db->conn) == CONNECTION_BAD ||
		(severity != NULL && strcmp(severity, "ERROR") != 0);
	/* What ends the session is no record's, as long as it is not shown to be. */
	if (db->error.ended &&
		(db->error.failure == OUTBOX_FAILURE_RECORD || db->error.failure == OUTBOX_FAILURE_DECODE))
		db->error.failure = OUTBOX_FAILURE_INFRASTRUCTURE;
	if (db->error.sqlstate[0] == '\0')
		return;
	db->stale = db->stale || outbox_failure_ends_session(db->error.sqlstate);
	/* What was prepared is not there, or somebody else's. */
	if (db->pooled &&
		(strcmp(db->error.sqlstate, "26000") == 0 || strcmp(db->error.sqlstate, "42P05") == 0))
		outbox_db_refuse_pooler(db);
}

bool
outbox_db_open(OutboxDb *db, const char *conninfo, long statement_timeout_ms)
{
	memset(db, 0, sizeof(*db));
	db->conninfo = strdup(conninfo);
	db->statement_timeout_ms = statement_timeout_ms;
	return db->conninfo != NULL;
}

void
outbox_db_drop(OutboxDb *db)
{
	PQfinish(db->conn);
	db->conn = NULL;
	db->prepared_count = 0;
	db->stale = false;
	db->pooled = false;
	db->warned[0] = '\0';
}

void
outbox_db_renew(OutboxDb *db)
{
	db->stale = true;
}

void
outbox_db_close(OutboxDb *db)
{
	outbox_db_drop(db);
	free(db->conninfo);
	db->conninfo = NULL;
}

/* Waits for the server; false: the deadline is over, or the connection is lost. */
static bool
wait_input(PGconn *conn, int64_t deadline)
{
	struct pollfd socket = {PQsocket(conn), POLLIN, 0};
	int64_t		  left = deadline - outbox_clock_ms();
	int			  unsent = PQflush(conn);

	if (unsent < 0 || left <= 0)
		return false;
	if (unsent > 0)
		socket.events |= POLLOUT;
	return poll(&socket, 1, left < POLL_MAX_MS ? (int) left : POLL_MAX_MS) <= 0 ||
		PQconsumeInput(conn) == 1;
}

PGresult *
outbox_db_await(OutboxDb *db, int sent, int64_t deadline)
{
	PGresult *last = NULL;
	PGresult *result;

	while (sent == 1)
	{
		if (!PQisBusy(db->conn))
		{
			result = PQgetResult(db->conn);
			if (result == NULL)
				return last;
			PQclear(last);
			last = result;
		}
		else if (!wait_input(db->conn, deadline))
			break;
	}
	PQclear(last);
	if (sent == 1 && PQstatus(db->conn) == CONNECTION_OK)
		outbox_error_set(&db->error, OUTBOX_FAILURE_INFRASTRUCTURE, OUTBOX_DB_LOST,
						 "the database did not answer in time");
	else
		outbox_db_take_error(db, NULL);
	outbox_db_drop(db);
	return NULL;
}

/* Whether the result, which is cleared, says success; else db->error. */
static bool
accept_command(OutboxDb *db, PGresult *result)
{
	bool good = PQresultStatus(result) == PGRES_COMMAND_OK;

	if (!good && result != NULL)
		outbox_db_take_error(db, result);
	PQclear(result);
	return good;
}

/* Number of a prepared statement, or -1. */
static int
find_prepared(const OutboxDb *db, const char *sql)
{
	for (int i = 0; i < db->prepared_count; i++)
	{
		if (db->prepared[i] == sql)
			return i;
	}
	return -1;
}

static bool
prepare_until(OutboxDb *db, const char *sql, int64_t deadline)
{
	char name[16];

	if (find_prepared(db, sql) >= 0)
		return true;
	if (db->prepared_count == OUTBOX_DB_STATEMENTS)
	{
		outbox_error_set(&db->error, OUTBOX_FAILURE_DEPLOY, NULL, "too many different statements");
		return false;
	}
	snprintf(name, sizeof(name), "s%d", db->prepared_count);
	if (!accept_command(db,
						outbox_db_await(db, PQsendPrepare(db->conn, name, sql, 0, NULL), deadline)))
		return false;
	db->prepared[db->prepared_count++] = sql;
	return true;
}

bool
outbox_db_prepare(OutboxDb *db, const char *sql)
{
	return prepare_until(db, sql, OUTBOX_DB_NO_DEADLINE);
}

static PGresult *
query_until(OutboxDb *db, const char *sql, int count, const char *const *values, int64_t deadline)
{
	PGresult *result;
	char	  name[16];

	if (!prepare_until(db, sql, deadline))
		return NULL;
	snprintf(name, sizeof(name), "s%d", find_prepared(db, sql));
	result = outbox_db_await(db, PQsendQueryPrepared(db->conn, name, count, values, NULL, NULL, 0),
							 deadline);
	if (result == NULL || PQresultStatus(result) == PGRES_TUPLES_OK ||
		PQresultStatus(result) == PGRES_COMMAND_OK)
		return result;
	outbox_db_take_error(db, result);
	PQclear(result);
	return NULL;
}

PGresult *
outbox_db_query(OutboxDb *db, const char *sql, int count, const char *const *values)
{
	return query_until(db, sql, count, values, OUTBOX_DB_NO_DEADLINE);
}

PGresult *
outbox_db_query_within(OutboxDb *db, const char *sql, int count, const char *const *values, long ms)
{
	PGresult *result = NULL;

	/* What does not fit into the socket must not wait either. */
	if (PQsetnonblocking(db->conn, 1) == 0)
		result = query_until(db, sql, count, values, outbox_clock_ms() + ms);
	else
		outbox_db_take_error(db, NULL);
	if (db->conn != NULL && PQsetnonblocking(db->conn, 0) != 0)
		outbox_db_drop(db);
	return result;
}

bool
outbox_db_begin_pipeline(OutboxDb *db)
{
	if (PQenterPipelineMode(db->conn) == 1)
		return true;
	outbox_db_take_error(db, NULL);
	return false;
}

bool
outbox_db_send(OutboxDb *db, const char *sql, int count, const char *const *values)
{
	int	 statement = find_prepared(db, sql);
	char name[16];
	int	 sent;

	snprintf(name, sizeof(name), "s%d", statement);
	if (statement >= 0)
		sent = PQsendQueryPrepared(db->conn, name, count, values, NULL, NULL, 0);
	else
		sent = PQsendQueryParams(db->conn, sql, count, NULL, values, NULL, NULL, 0);
	if (sent != 1)
		outbox_db_take_error(db, NULL);
	return sent == 1;
}

bool
outbox_db_sync(OutboxDb *db)
{
	if (PQpipelineSync(db->conn) == 1)
		return true;
	outbox_db_take_error(db, NULL);
	return false;
}

PGresult *
outbox_db_result(OutboxDb *db, bool *skipped)
{
	PGresult	  *result = PQgetResult(db->conn);
	ExecStatusType status = PQresultStatus(result);

	*skipped = status == PGRES_PIPELINE_ABORTED;
	if (result == NULL || (status != PGRES_TUPLES_OK && status != PGRES_COMMAND_OK))
	{
		if (!*skipped)
			outbox_db_take_error(db, result);
		PQclear(result);
		result = NULL;
	}
	/* A NULL ends each statement's results, unless the connection is gone. */
	if (PQstatus(db->conn) == CONNECTION_OK)
	{
		PGresult *end = PQgetResult(db->conn);

		PQclear(end);
	}
	return result;
}

bool
outbox_db_finish_sync(OutboxDb *db)
{
	PGresult	  *result;
	ExecStatusType status;

	do
	{
		result = PQgetResult(db->conn);
		status = PQresultStatus(result);
		if (result == NULL && PQstatus(db->conn) != CONNECTION_OK)
		{
			outbox_db_take_error(db, NULL);
			return false;
		}
		PQclear(result);
	} while (status != PGRES_PIPELINE_SYNC);
	return true;
}

void
outbox_db_end_pipeline(OutboxDb *db)
{
	if (db->conn == NULL)
		return;
	if (PQexitPipelineMode(db->conn) != 1 || PQstatus(db->conn) != CONNECTION_OK)
	{
		outbox_db_drop(db);
		return;
	}
	if (PQtransactionStatus(db->conn) != PQTRANS_IDLE)
		PQclear(PQexec(db->conn, "ROLLBACK"));
	if (PQtransactionStatus(db->conn) != PQTRANS_IDLE)
		outbox_db_drop(db);
}
