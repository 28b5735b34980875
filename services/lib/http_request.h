/* SPDX-License-Identifier: PostgreSQL
 *
 * http_request.h
 *	  A request as a handler sees it: whole, and independent of its connection.
 */
#ifndef OUTBOX_HTTP_REQUEST_H
#define OUTBOX_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

struct OutboxHttpExchange;
struct OutboxHttpParts;

/* Of one thread at a time; what it leads to lives as long as it. */
typedef struct OutboxHttpRequest
{
	const char				  *method; /* HEAD comes to who takes GET */
	const char				  *path;   /* unescaped UTF-8, without query */
	const char				  *rest;   /* what follows the route's path */
	const char				  *body;   /* bytes, terminated besides; "" when there is none */
	size_t					   body_len;
	struct OutboxHttpParts	  *parts;	 /* http_request.c */
	struct OutboxHttpExchange *exchange; /* http_exchange.c */
} OutboxHttpRequest;

/* Value of the header, of query argument ?name=, of the form's field in the body; NULL: none. */
extern const char *outbox_http_header(const OutboxHttpRequest *request, const char *name);
extern const char *outbox_http_argument(const OutboxHttpRequest *request, const char *name);

/* Only of application/x-www-form-urlencoded; one that cannot be read has no fields. */
extern const char *outbox_http_field(const OutboxHttpRequest *request, const char *name);

#define OUTBOX_HTTP_BODY_MAX (1024 * 1024)

/* What the server does: http.c, event threads, and who answers. */

/* target: of the request line, as it came.  NULL: out of memory. */
extern struct OutboxHttpParts *outbox_http_request_new(const char *target);
extern void outbox_http_request_free(struct OutboxHttpParts *parts);

/*
 * Takes method and headers over from the library and judges them with the target.  What is wrong
 * (a string constant), or NULL.  mhd: a struct MHD_Connection.
 */
extern const char *outbox_http_request_begin(struct OutboxHttpParts *parts, void *mhd,
											 const char *method, const char *version);
extern void outbox_http_request_add_body(struct OutboxHttpParts *parts, const char *data,
										 size_t size);

/* 0, or the status that refuses the body: 413, or 503 when all bodies together are too much. */
extern int outbox_http_request_refusal(const struct OutboxHttpParts *parts);

/* For handlers; valid after begin. */
extern OutboxHttpRequest *outbox_http_request_of(struct OutboxHttpParts *parts);

/*
 * User and password of basic authentication, malloc'ed, to be freed with outbox_http_request_wipe;
 * false: none.  The header is wiped: later calls return false.
 */
extern bool outbox_http_request_take_password(struct OutboxHttpParts *parts, char **user,
											  char **password);
extern void outbox_http_request_wipe(char *text);

#endif /* OUTBOX_HTTP_REQUEST_H */
