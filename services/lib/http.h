/* SPDX-License-Identifier: PostgreSQL
 *
 * http.h
 *	  The HTTP side of a program: /livez, /readyz, /metrics and its own routes.
 */
#ifndef OUTBOX_HTTP_H
#define OUTBOX_HTTP_H

#include <stdbool.h>

#include "http_answer.h"
#include "http_connection.h"
#include "http_dispatch.h"
#include "http_exchange.h"
#include "http_request.h"
#include "http_route.h"

typedef struct OutboxHttpServer
{
	OutboxHttpSite	 site;
	const char		*address;		 /* http_address */
	int				 port;			 /* without meaning where address is a path */
	const char		*health_address; /* "" or NULL: none */
	OutboxHttpLimits limits;		 /* a zero: the default */
	int				 workers;		 /* threads of handlers; 0: the default */
	int				 waiting;		 /* requests that wait for one; 0: the default */
} OutboxHttpServer;

/* Serves until stopped; main thread.  false: could not listen or start, logged. */
extern bool outbox_http_start(const OutboxHttpServer *server);

/* Takes no more, waits for handlers that run, and sends their answers. */
extern void outbox_http_stop(void);

#endif /* OUTBOX_HTTP_H */
