/* SPDX-License-Identifier: PostgreSQL
 *
 * http_answer.h
 *	  What a handler answers: status, headers, body.
 */
#ifndef OUTBOX_HTTP_ANSWER_H
#define OUTBOX_HTTP_ANSWER_H

#include <stdbool.h>
#include <stddef.h>

#include "http_pairs.h"
#include "http_request.h"

#define OUTBOX_HTTP_TEXT ((size_t) -1)

typedef struct OutboxHttpAnswer
{
	int				status;
	const char	   *content_type; /* a string constant; initially application/json */
	char		   *body;		  /* malloc'ed; NULL: empty */
	size_t			body_len;	  /* initially OUTBOX_HTTP_TEXT: up to the zero byte */
	OutboxHttpPairs headers;	  /* outbox_http_add_header */
	bool			close;		  /* the connection ends with the answer */
} OutboxHttpAnswer;

/* 200, application/json, empty. */
extern const OutboxHttpAnswer outbox_http_answer_initial;

/* {"error": text} with the status, in place of what the body was. */
extern void outbox_http_error(OutboxHttpAnswer *answer, int status, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

/*
 * Adds Location, Set-Cookie, ETag, Content-Security-Policy, ...; of one name as often as it is
 * called.  false: no header's name, a control character in the value, or out of memory.
 */
extern bool outbox_http_add_header(OutboxHttpAnswer *answer, const char *name, const char *value);

/* 503 with Retry-After. */
extern void outbox_http_busy(OutboxHttpAnswer *answer, const char *why);

/*
 * Makes 304 of 200 to a GET or HEAD whose If-None-Match has the answer's ETag; the server does it
 * to every answer.
 */
extern void outbox_http_answer_match(OutboxHttpAnswer *answer, const OutboxHttpRequest *request);

/* Sends the answer on a struct MHD_Connection and frees it; event thread.  false: not sent. */
extern bool outbox_http_answer_send(OutboxHttpAnswer *answer, void *mhd);
extern void outbox_http_answer_free(OutboxHttpAnswer *answer);

#endif /* OUTBOX_HTTP_ANSWER_H */
