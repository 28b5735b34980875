/* SPDX-License-Identifier: PostgreSQL
 *
 * http_connection.h
 *	  Connections: how many there may be, and until when each must be a step further.
 */
#ifndef OUTBOX_HTTP_CONNECTION_H
#define OUTBOX_HTTP_CONNECTION_H

#include <stdbool.h>

#include "http_exchange.h"

/* All times are whole: what trickles in does not prolong them. */
typedef struct OutboxHttpLimits
{
	int connections; /* at once; a new one above it ends the one that is idle longest */
	int per_address; /* of one client's address; 0: any number */
	int idle_ms;	 /* from an answer to the next request line */
	int head_ms;	 /* from the connection, or the next request line, to the last header */
	int body_ms;	 /* from the last header to the end of the body */
	int request_ms;	 /* from the last byte of the request to the answer; then it is 503 */
	int answer_ms;	 /* from the answer to its last byte */
} OutboxHttpLimits;

typedef enum OutboxHttpPhase
{
	OUTBOX_HTTP_IDLE,
	OUTBOX_HTTP_HEAD,
	OUTBOX_HTTP_BODY,
	OUTBOX_HTTP_WORK,
	OUTBOX_HTTP_ANSWER,
	OUTBOX_HTTP_PHASES,
} OutboxHttpPhase;

typedef struct OutboxHttpConnection OutboxHttpConnection;
struct sockaddr;

/* Starts the timer.  false: no thread. */
extern bool outbox_http_connections_start(const OutboxHttpLimits *limits);

/*
 * Answers all that is under way with 503 and waits, 2 s at most, until the answers are sent; ends
 * the timer.  Workers have ended before.
 */
extern void outbox_http_connections_stop(void);

/*
 * Event thread, as the calls below.  health: of the listener that has nothing else.  NULL: out of
 * memory.  Valid until closed, which comes before the library closes the socket.
 */
extern OutboxHttpConnection *outbox_http_connection_opened(int					  socket,
														   const struct sockaddr *address,
														   bool					  health);
extern void outbox_http_connection_closed(OutboxHttpConnection *connection);

/* From here on the time of that phase runs; exchange: the request's, NULL: none. */
extern void outbox_http_connection_enter(OutboxHttpConnection *connection, OutboxHttpPhase phase,
										 OutboxHttpExchange *exchange);

/* Are there too many, so that only health is answered? */
extern bool outbox_http_connection_is_crowded(const OutboxHttpConnection *connection);
extern bool outbox_http_connection_is_health(const OutboxHttpConnection *connection);

#endif /* OUTBOX_HTTP_CONNECTION_H */
