/* SPDX-License-Identifier: PostgreSQL
 *
 * http_post.h
 *	  One POST of JSON to another system, on libcurl.
 */
#ifndef OUTBOX_HTTP_POST_H
#define OUTBOX_HTTP_POST_H

#include <curl/curl.h>

typedef struct OutboxHttpPost
{
	const char			  *url;
	const char			  *body;
	const char			  *header; /* besides Content-Type, "Name: value"; NULL: none */
	long				   timeout_ms;
	curl_xferinfo_callback watch; /* other than 0 ends the transfer; NULL: none */
} OutboxHttpPost;

/*
 * Sets a handle up for the POST, which must stay as it is until the transfer is over; then the
 * caller frees the list that is returned.
 */
extern struct curl_slist *outbox_http_post_prepare(CURL *curl, const OutboxHttpPost *post);

/*
 * The HTTP status, or 0 with *error set when there was no answer; the answer's body is
 * dropped.  Any thread; a handle belongs to one at a time.
 */
extern long outbox_http_post(CURL *curl, const OutboxHttpPost *post, const char **error);

#endif /* OUTBOX_HTTP_POST_H */
