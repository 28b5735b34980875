/* SPDX-License-Identifier: PostgreSQL
 *
 * http_dispatch.h
 *	  From a request to its answer: health, the right host, the password, the route.
 */
#ifndef OUTBOX_HTTP_DISPATCH_H
#define OUTBOX_HTTP_DISPATCH_H

#include <stdbool.h>

#include "http_route.h"

typedef struct OutboxHttpSite
{
	const OutboxRoute *routes; /* besides /livez, /readyz, /metrics; NULL: none */

	/* What is wrong (a string constant) or NULL.  Event thread: they never wait. */
	const char *(*alive)(void);
	const char *(*ready)(void);

	/* NULL: no password is asked for.  Fills the user's rights, bits of OutboxRight. */
	bool (*admits)(const char *user, const char *password, unsigned *rights);
	const char *hosts; /* http_hosts; "": any name, but on a loopback address none; NULL: any */
} OutboxHttpSite;

/* Before the server starts; site lives as long as it. */
extern void outbox_http_dispatch_setup(const OutboxHttpSite *site);

/* Event thread: answers what asks for health; false: something else. */
extern bool outbox_http_dispatch_health(const OutboxHttpRequest *request, OutboxHttpAnswer *answer);

/* A thread of the pool: anything else. */
extern void outbox_http_dispatch(struct OutboxHttpParts *parts, OutboxHttpAnswer *answer);

#endif /* OUTBOX_HTTP_DISPATCH_H */
