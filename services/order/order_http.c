/* SPDX-License-Identifier: PostgreSQL
 *
 * order_http.c
 *	  Orders over HTTP: placed in one transaction with their event, and shown.
 *
 * Runs in outbox-order on the threads of the HTTP pool; each keeps its own connection.
 * Answers of POST: 201 placed or placed before with the same key and body; 400 bad
 * request; 409 the key's first request is under way; 422 the key came with another
 * body; 503 the database is away (safe to repeat with the same key).
 */
#include "order_http.h"

#include <stdlib.h>
#include <string.h>

#include "services/lib/bytea.h"
#include "services/lib/db_session.h"
#include "services/lib/http.h"
#include "services/lib/log.h"
#include "services/lib/text.h"
#include "services/lib/trace_context.h"
#include "services/runtime/call.h"
#include "services/runtime/settings.h"
#include "services/runtime/trace.h"

#define KEY_MAX	  255
#define TRIES_MAX 4 /* of a statement that meets other transactions */

static const char place_sql[] = "SELECT verdict, answer FROM shop.place_order($1, $2::jsonb, "
								"outbox.wire_text($3::bytea, 256), $4)";
static const char show_sql[] = "SELECT shop.order_json($1)";

static _Thread_local OutboxDb thread_db;

/*
 * Is the failed statement to be sent again?  Nothing of it is committed, or its key tells: a
 * session that was kept from an earlier request has ended or is of no use, or another transaction
 * came first.
 */
static bool
is_to_be_repeated(const OutboxDb *db, bool kept, int tries)
{
	if (strcmp(db->error.sqlstate, "40001") == 0 || strcmp(db->error.sqlstate, "40P01") == 0)
		return tries < TRIES_MAX;
	return kept && (db->conn == NULL || db->stale);
}

/* The statement's result; NULL: db->error. */
static PGresult *
run_statement(OutboxDb *db, const char *sql, int count, const char *const *values)
{
	for (int tries = 1;; tries++)
	{
		bool	  kept = db->conn != NULL && !db->stale;
		PGresult *result;

		if (!outbox_db_connect(db))
			return NULL;
		result = outbox_db_query(db, sql, count, values);
		if (result != NULL || !is_to_be_repeated(db, kept, tries))
			return result;
	}
}

/* NULL when the database did not do it; the answer is filled then. */
static PGresult *
query(const char *sql, int count, const char *const *values, OutboxHttpAnswer *answer)
{
	OutboxDb *db = &thread_db;
	PGresult *result;

	if (db->conninfo == NULL &&
		!outbox_db_open(db, outbox_settings.database, outbox_settings.statement_timeout_ms))
	{
		outbox_http_error(answer, 503, "out of memory");
		return NULL;
	}
	result = run_statement(db, sql, count, values);
	if (result != NULL)
		return result;
	outbox_log(OUTBOX_LOG_WARNING, "request_failed", "%s, SQLSTATE %s", db->error.message,
			   db->error.sqlstate);
	if (db->error.failure == OUTBOX_FAILURE_RECORD ||
		db->error.failure == OUTBOX_FAILURE_PERMANENT || db->error.failure == OUTBOX_FAILURE_DECODE)
		outbox_http_error(answer, 400, "the order was refused: %s", db->error.message);
	else
		outbox_http_error(answer, 503, "the database is not available");
	return NULL;
}

/* Checks a body by the rules of a handler; false with call->error set. */
static bool
check_order(const json_t *order, OutboxCall *call)
{
	size_t	index;
	json_t *item;

	if (!outbox_decode_require(order, "customerId", JSON_STRING, call) ||
		!outbox_decode_require(order, "items", JSON_ARRAY, call))
		return false;
	if (json_object_get(order, "currency") != NULL &&
		!outbox_decode_require(order, "currency", JSON_STRING, call))
		return false;
	if (json_array_size(json_object_get(order, "items")) == 0)
		outbox_call_reject(call, "field \"items\" is empty");
	json_array_foreach(json_object_get(order, "items"), index, item)
	{
		if (!json_is_object(item))
			outbox_call_reject(call, "items[%zu] is not an object", index);
		else if (outbox_decode_require(item, "sku", JSON_STRING, call) &&
				 outbox_decode_require(item, "quantity", JSON_INTEGER, call) &&
				 json_integer_value(json_object_get(item, "quantity")) <= 0)
			outbox_call_reject(call, "items[%zu]: field \"quantity\" is not above 0", index);
	}
	return call->error.failure == OUTBOX_FAILURE_NONE;
}

static bool
check_request(const OutboxHttpRequest *request, const char *key, OutboxHttpAnswer *answer)
{
	OutboxRecord record = {0};
	OutboxCall	 call = {0};
	json_t		*order;
	bool		 good;

	if (key == NULL || *key == '\0' || strlen(key) > KEY_MAX)
	{
		outbox_http_error(answer, 400, "header Idempotency-Key (1 to %d bytes) is missing",
						  KEY_MAX);
		return false;
	}
	record.value = (const uint8_t *) request->body;
	record.value_len = request->body_len;
	order = outbox_decode_object(&record, &call);
	good = order != NULL && check_order(order, &call);
	json_decref(order);
	if (!good)
		outbox_http_error(answer, 400, "%s", call.error.message);
	return good;
}

/*
 * X-Correlation-Id as bytea of the text that Kafka's header correlationid would be, malloc'ed;
 * NULL: none.
 */
static char *
read_correlation_id(const OutboxHttpRequest *request)
{
	const char *header = outbox_http_header(request, "X-Correlation-Id");
	char	   *text;
	char	   *bytes;

	if (header == NULL)
		return NULL;
	text = outbox_text_header(header, strlen(header), OUTBOX_CORRELATION_MAX);
	bytes = outbox_bytea_of_text(text);
	free(text);
	return bytes;
}

/* The event carries the traceparent of its own span, created, or else the request's. */
static void
place_order(const OutboxHttpRequest *request, OutboxHttpAnswer *answer, const char *traceparent,
			const OutboxSpan *created)
{
	const char *key = outbox_http_header(request, "Idempotency-Key");
	char	   *correlation_id;
	const char *verdict;
	PGresult   *result;

	if (!check_request(request, key, answer))
		return;
	correlation_id = read_correlation_id(request);
	result = query(place_sql, 4,
				   (const char *const[]) {key, request->body, correlation_id,
										  outbox_span_traceparent(created, traceparent)},
				   answer);
	free(correlation_id);
	if (result == NULL)
		return;
	verdict = PQgetvalue(result, 0, 0);
	if (strcmp(verdict, "placed") == 0)
		outbox_span_end_create(created, "orders.created");
	if (strcmp(verdict, "in_progress") == 0)
		outbox_http_error(answer, 409, "a request with this Idempotency-Key is under way");
	else if (strcmp(verdict, "mismatch") == 0)
		outbox_http_error(answer, 422, "this Idempotency-Key was used with another body");
	else
	{
		answer->status = 201;
		answer->body = strdup(PQgetvalue(result, 0, 1));
	}
	PQclear(result);
}

/* POST /orders: in the trace of the caller, if it names one. */
static void
trace_order(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	const char		  *traceparent = outbox_http_header(request, "traceparent");
	OutboxTraceContext context;
	OutboxSpan		   span;
	OutboxSpan		   created;

	if (traceparent != NULL && !outbox_trace_parse(traceparent, &context))
		traceparent = NULL;
	outbox_span_begin(&span, traceparent);
	outbox_span_begin(&created, outbox_span_traceparent(&span, traceparent));
	place_order(request, answer, traceparent, &created);
	outbox_span_end_request(&span, "POST", "/orders", answer->status);
}

static void
show_order(const OutboxHttpRequest *request, OutboxHttpAnswer *answer)
{
	const char *values[1] = {request->rest};
	PGresult   *result = query(show_sql, 1, values, answer);

	if (result == NULL)
		return;
	if (PQgetisnull(result, 0, 0))
		outbox_http_error(answer, 404, "no such order");
	else
		answer->body = strdup(PQgetvalue(result, 0, 0));
	PQclear(result);
}

const OutboxRoute order_routes[] = {
	{"POST", "/orders", trace_order, OUTBOX_RIGHT_NONE},
	{"GET", "/orders/", show_order, OUTBOX_RIGHT_NONE},
	{NULL, NULL, NULL, OUTBOX_RIGHT_NONE},
};
