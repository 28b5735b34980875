/* SPDX-License-Identifier: PostgreSQL
 *
 * http_answer.c
 *	  Answers, and how they become the library's.
 *
 * Any thread; an answer belongs to one.
 */
#define _GNU_SOURCE
#include "http_answer.h"

#include <jansson.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http_guard.h"
#include "text.h"

const OutboxHttpAnswer outbox_http_answer_initial = {.status = MHD_HTTP_OK,
													 .content_type = "application/json",
													 .body_len = OUTBOX_HTTP_TEXT};

void
outbox_http_error(OutboxHttpAnswer *answer, int status, const char *format, ...)
{
	char	text[1024];
	va_list arguments;
	json_t *body;

	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	outbox_text_mend(text, sizeof(text));
	body = json_pack("{s:s}", "error", text);
	free(answer->body);
	answer->status = status;
	answer->content_type = outbox_http_answer_initial.content_type;
	answer->body = body != NULL ? json_dumps(body, JSON_COMPACT) : NULL;
	answer->body_len = OUTBOX_HTTP_TEXT;
	json_decref(body);
}

bool
outbox_http_add_header(OutboxHttpAnswer *answer, const char *name, const char *value)
{
	if (!outbox_http_is_token(name))
		return false;
	for (const char *byte = value; *byte != '\0'; byte++)
	{
		if ((unsigned char) *byte < 0x20 || *byte == 0x7F)
			return false;
	}
	return outbox_http_pairs_add(&answer->headers, name, value);
}

void
outbox_http_busy(OutboxHttpAnswer *answer, const char *why)
{
	outbox_http_error(answer, MHD_HTTP_SERVICE_UNAVAILABLE, "%s", why);
	(void) outbox_http_add_header(answer, "Retry-After", "1");
}

/* Is tag in a list as W/"a", "b"?  Compared weakly. */
static bool
has_tag(const char *list, const char *tag)
{
	size_t len;

	if (strncmp(tag, "W/", 2) == 0)
		tag += 2;
	len = strlen(tag);
	while (*list != '\0')
	{
		list += strspn(list, " \t,");
		if (*list == '*')
			return true;
		if (strncmp(list, "W/", 2) == 0)
			list += 2;
		if (strncmp(list, tag, len) == 0 && strchr(" \t,", list[len]) != NULL)
			return true;
		list += strcspn(list, ",");
	}
	return false;
}

void
outbox_http_answer_match(OutboxHttpAnswer *answer, const OutboxHttpRequest *request)
{
	const char *tag = outbox_http_pairs_find(&answer->headers, "ETag", true);
	const char *known = outbox_http_header(request, "If-None-Match");

	if (tag == NULL || known == NULL || answer->status != MHD_HTTP_OK ||
		(strcmp(request->method, "GET") != 0 && strcmp(request->method, "HEAD") != 0) ||
		!has_tag(known, tag))
		return;
	answer->status = MHD_HTTP_NOT_MODIFIED;
	free(answer->body);
	answer->body = NULL;
}

void
outbox_http_answer_free(OutboxHttpAnswer *answer)
{
	free(answer->body);
	outbox_http_pairs_free(&answer->headers);
	*answer = outbox_http_answer_initial;
}

bool
outbox_http_answer_send(OutboxHttpAnswer *answer, void *mhd)
{
	struct MHD_Response *response;
	size_t				 len = answer->body_len;
	bool				 sent;

	if (answer->body == NULL)
		len = 0;
	else if (len == OUTBOX_HTTP_TEXT)
		len = strlen(answer->body);
	response = MHD_create_response_from_buffer(len, answer->body != NULL ? answer->body : "",
											   answer->body != NULL ? MHD_RESPMEM_MUST_FREE :
																	  MHD_RESPMEM_PERSISTENT);
	if (response == NULL)
	{
		outbox_http_answer_free(answer);
		return false;
	}
	answer->body = NULL; /* the response's */
	if (answer->status != MHD_HTTP_NOT_MODIFIED)
		MHD_add_response_header(response, "Content-Type", answer->content_type);
	if (answer->close)
		MHD_add_response_header(response, "Connection", "close");
	for (size_t i = 0; i < answer->headers.count; i++)
		MHD_add_response_header(response, answer->headers.list[i].name,
								answer->headers.list[i].value);
	sent = MHD_queue_response(mhd, (unsigned) answer->status, response) == MHD_YES;
	MHD_destroy_response(response);
	outbox_http_answer_free(answer);
	return sent;
}
