/* SPDX-License-Identifier: PostgreSQL
 *
 * http_route.h
 *	  Which handler a path has, and who may have it run.
 */
#ifndef OUTBOX_HTTP_ROUTE_H
#define OUTBOX_HTTP_ROUTE_H

#include <stddef.h>

#include "auth.h"
#include "http_answer.h"
#include "http_request.h"

/* Called on a thread of the pool, which may wait. */
typedef void (*OutboxRouteFn)(const OutboxHttpRequest *request, OutboxHttpAnswer *answer);

typedef struct OutboxRoute
{
	const char	 *method; /* GET takes HEAD as well */
	const char	 *path;	  /* ends in '/': whatever begins with it */
	OutboxRouteFn run;
	OutboxRight	  right; /* what a user needs, where a password is asked for */
} OutboxRoute;

/* The route of a table that ends with a NULL method; fills request->rest.  NULL: none. */
extern const OutboxRoute *outbox_http_route_find(const OutboxRoute *routes,
												 OutboxHttpRequest *request);

/* Adds the methods that a path has to a list as "GET, HEAD". */
extern void outbox_http_route_methods(const OutboxRoute *routes, const char *path, char *list,
									  size_t size);

#endif /* OUTBOX_HTTP_ROUTE_H */
