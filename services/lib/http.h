/* SPDX-License-Identifier: PostgreSQL
 *
 * http.h
 *	  The service's HTTP side: /livez, /readyz, /metrics and a service's own routes.
 */
#ifndef OUTBOX_HTTP_H
#define OUTBOX_HTTP_H

#include <stdbool.h>
#include <stddef.h>

typedef struct OutboxHttpRequest
{
	const char *method;
	const char *path; /* without query */
	const char *rest; /* what follows the route's path */
	const char *body; /* terminated; "" when there is none */
	size_t		body_len;
	void	   *connection; /* http.c */
} OutboxHttpRequest;

typedef struct OutboxHttpAnswer
{
	int			status;
	const char *content_type; /* a string constant; initially application/json */
	char	   *body;		  /* malloc'ed; NULL: empty */
} OutboxHttpAnswer;

/* Called on one of several HTTP threads. */
typedef void (*OutboxRouteFn)(const OutboxHttpRequest *request, OutboxHttpAnswer *answer);

typedef struct OutboxRoute
{
	const char	 *method;
	const char	 *path; /* ends in '/': whatever begins with it */
	OutboxRouteFn run;
} OutboxRoute;

/* NULL when the header is absent; lives as long as the request. */
extern const char *outbox_http_header(const OutboxHttpRequest *request, const char *name);

/* {"error": text} with the status. */
extern void outbox_http_error(OutboxHttpAnswer *answer, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Asks for a password (basic authentication) on every route but /livez and
 * /readyz; before outbox_http_start.  admits is called on the HTTP threads.
 */
extern void outbox_http_protect(bool (*admits)(const char *user, const char *password));

/* Option check of http_address. */
extern bool outbox_http_check_address(const char *value, char *error, size_t size);

/*
 * Serves on address:port until stopped.  alive and ready say what is wrong (a
 * string constant) or NULL.  false: could not listen, logged.
 */
extern bool outbox_http_start(const char *address, int port, const OutboxRoute *routes,
							  const char *(*alive)(void), const char *(*ready)(void) );
extern void outbox_http_stop(void);

#endif /* OUTBOX_HTTP_H */
