/* SPDX-License-Identifier: PostgreSQL
 *
 * http_exchange.h
 *	  One request and its answer: under way on a thread of the pool, or parked until somebody
 *	  resumes it, while its connection is suspended.
 */
#ifndef OUTBOX_HTTP_EXCHANGE_H
#define OUTBOX_HTTP_EXCHANGE_H

#include <stdbool.h>

#include "http_answer.h"
#include "http_request.h"

typedef struct OutboxHttpExchange OutboxHttpExchange;

/*
 * A handler that cannot answer yet parks the request, on its own thread, and returns; what it has
 * put into its answer is dropped.  The request lives until outbox_http_resume.
 */
extern OutboxHttpExchange *outbox_http_park(const OutboxHttpRequest *request);

/*
 * Answers a parked request, once, from any thread; *answer is taken over.  Who has waited longer
 * than a request may take has got 503, or has gone: then nothing is sent.
 */
extern void outbox_http_resume(OutboxHttpExchange *exchange, OutboxHttpAnswer *answer);

/* What the server does: http.c, http_connection.c. */

/* mhd: a struct MHD_Connection.  One reference, the connection's.  NULL: out of memory. */
extern OutboxHttpExchange *outbox_http_exchange_new(void *mhd, const char *target);
extern struct OutboxHttpParts *outbox_http_exchange_parts(const OutboxHttpExchange *exchange);

/* Event thread: stops the connection until finish; one more reference, the worker's. */
extern void outbox_http_exchange_suspend(OutboxHttpExchange *exchange);

/* Any thread: has the answer sent if there is none yet, else frees it. */
extern void outbox_http_exchange_finish(OutboxHttpExchange *exchange, OutboxHttpAnswer *answer);

/* Any thread: does the client still wait for an answer? */
extern bool outbox_http_exchange_is_awaited(const OutboxHttpExchange *exchange);

/* Did the handler park it?  Worker. */
extern bool outbox_http_exchange_is_parked(const OutboxHttpExchange *exchange);

/* Event thread: the answer is there; moves it. */
extern bool outbox_http_exchange_take(OutboxHttpExchange *exchange, OutboxHttpAnswer *answer);

/* Event thread: the connection is done with it; its reference ends. */
extern void outbox_http_exchange_forget(OutboxHttpExchange *exchange);
extern void outbox_http_exchange_release(OutboxHttpExchange *exchange);

#endif /* OUTBOX_HTTP_EXCHANGE_H */
