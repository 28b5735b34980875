/* SPDX-License-Identifier: PostgreSQL
 *
 * http_request.c
 *	  What came of a request, copied from the library's memory.
 *
 * Filled on the event thread, then read on one thread of the pool, or by who resumes.
 */
#define _GNU_SOURCE
#include "http_request.h"

#include <microhttpd.h>
#include <openssl/evp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http_guard.h"
#include "http_pairs.h"

#define BODIES_MAX (64 * OUTBOX_HTTP_BODY_MAX)

typedef struct OutboxHttpParts
{
	OutboxHttpRequest request;
	char			 *target; /* cut at its query and unescaped by begin */
	char			 *method;
	OutboxHttpPairs	  headers;
	OutboxHttpPairs	  arguments;
	OutboxHttpPairs	  fields;
	bool			  fields_read;
	char			 *body;
	size_t			  body_len;
	int				  refusal; /* 0, or a status */
} OutboxHttpParts;

static atomic_size_t bodies; /* bytes of all of them */

OutboxHttpParts *
outbox_http_request_new(const char *target)
{
	OutboxHttpParts *parts = calloc(1, sizeof(OutboxHttpParts));

	if (parts == NULL)
		return NULL;
	parts->target = strdup(target);
	if (parts->target == NULL)
	{
		free(parts);
		return NULL;
	}
	parts->request.rest = parts->request.body = "";
	parts->request.parts = parts;
	return parts;
}

void
outbox_http_request_free(OutboxHttpParts *parts)
{
	atomic_fetch_sub(&bodies, parts->body_len);
	outbox_http_pairs_free(&parts->headers);
	outbox_http_pairs_free(&parts->arguments);
	outbox_http_pairs_free(&parts->fields);
	free(parts->target);
	free(parts->method);
	free(parts->body);
	free(parts);
}

static enum MHD_Result
take_header(void *arg, enum MHD_ValueKind kind, const char *name, const char *value)
{
	(void) kind;
	return outbox_http_pairs_add(arg, name, value) ? MHD_YES : MHD_NO;
}

static const char *
judge_target(OutboxHttpParts *parts)
{
	char *query = strchr(parts->target, '?');

	if (query != NULL)
		*query++ = '\0';
	if (parts->target[0] != '/' && strcmp(parts->target, "*") != 0)
		return "the target is no path";
	if (strchr(parts->target, ' ') != NULL)
		return "the path has a blank";
	if (!outbox_http_unescape(parts->target, false))
		return "the path has a zero byte, or bytes that are no UTF-8";
	if (query != NULL && !outbox_http_pairs_parse(&parts->arguments, query))
		return "the query has a zero byte, bytes that are no UTF-8, or too many arguments";
	return NULL;
}

const char *
outbox_http_request_begin(OutboxHttpParts *parts, void *mhd, const char *method,
						  const char *version)
{
	int			count = MHD_get_connection_values(mhd, MHD_HEADER_KIND, NULL, NULL);
	const char *wrong;

	MHD_get_connection_values(mhd, MHD_HEADER_KIND, take_header, &parts->headers);
	parts->method = strdup(method);
	if (parts->method == NULL || parts->headers.count != (size_t) count)
		return "out of memory";
	wrong = outbox_http_guard(&parts->headers, version);
	if (wrong == NULL)
		wrong = judge_target(parts);
	parts->request.method = parts->method;
	parts->request.path = parts->target;
	return wrong;
}

static bool
make_room(OutboxHttpParts *parts, size_t size)
{
	char *grown;

	if (parts->body_len + size > OUTBOX_HTTP_BODY_MAX)
	{
		parts->refusal = MHD_HTTP_CONTENT_TOO_LARGE;
		return false;
	}
	grown = realloc(parts->body, parts->body_len + size + 1);
	if (grown != NULL)
		parts->body = grown;
	if (grown == NULL || atomic_load(&bodies) + size > BODIES_MAX)
		parts->refusal = MHD_HTTP_SERVICE_UNAVAILABLE;
	return parts->refusal == 0;
}

void
outbox_http_request_add_body(OutboxHttpParts *parts, const char *data, size_t size)
{
	if (parts->refusal != 0 || !make_room(parts, size))
		return;
	memcpy(parts->body + parts->body_len, data, size);
	parts->body_len += size;
	atomic_fetch_add(&bodies, size);
	parts->body[parts->body_len] = '\0';
	parts->request.body = parts->body;
	parts->request.body_len = parts->body_len;
}

int
outbox_http_request_refusal(const OutboxHttpParts *parts)
{
	return parts->refusal;
}

OutboxHttpRequest *
outbox_http_request_of(OutboxHttpParts *parts)
{
	return &parts->request;
}

const char *
outbox_http_header(const OutboxHttpRequest *request, const char *name)
{
	return outbox_http_pairs_find(&request->parts->headers, name, true);
}

const char *
outbox_http_argument(const OutboxHttpRequest *request, const char *name)
{
	return outbox_http_pairs_find(&request->parts->arguments, name, false);
}

static bool
is_form(const OutboxHttpRequest *request)
{
	static const char form[] = "application/x-www-form-urlencoded";
	const char		 *type = outbox_http_header(request, "Content-Type");

	return type != NULL && strncasecmp(type, form, sizeof(form) - 1) == 0 &&
		strchr("; \t", type[sizeof(form) - 1]) != NULL;
}

const char *
outbox_http_field(const OutboxHttpRequest *request, const char *name)
{
	OutboxHttpParts *parts = request->parts;

	if (!parts->fields_read && is_form(request))
	{
		/* A zero byte would end the text before the body. */
		if (strlen(request->body) != request->body_len ||
			!outbox_http_pairs_parse(&parts->fields, request->body))
			outbox_http_pairs_free(&parts->fields);
	}
	parts->fields_read = true;
	return outbox_http_pairs_find(&parts->fields, name, false);
}

void
outbox_http_request_wipe(char *text)
{
	if (text != NULL)
		explicit_bzero(text, strlen(text));
	free(text);
}

/* The credentials behind "Basic ", in any case, as text; NULL: none. */
static char *
decode_basic(const char *header)
{
	size_t len;
	char  *text;
	int	   got;

	if (strncasecmp(header, "basic", 5) != 0 || (header[5] != ' ' && header[5] != '\t'))
		return NULL;
	header += 5 + strspn(header + 5, " \t");
	len = strlen(header);
	while (len > 0 && (header[len - 1] == ' ' || header[len - 1] == '\t'))
		len--;
	if (len == 0 || len % 4 != 0)
		return NULL;
	text = calloc(1, len);
	if (text == NULL)
		return NULL;
	got = EVP_DecodeBlock((unsigned char *) text, (const unsigned char *) header, (int) len);
	/* It counts the zero bytes that the signs at the end stand for. */
	for (size_t i = len; got > 0 && i > len - 2 && header[i - 1] == '='; i--)
		got--;
	if (got > 0 && strlen(text) == (size_t) got)
		return text;
	explicit_bzero(text, len);
	free(text);
	return NULL;
}

bool
outbox_http_request_take_password(OutboxHttpParts *parts, char **user, char **password)
{
	const char *found = outbox_http_header(&parts->request, "Authorization");
	char	   *text = found != NULL ? decode_basic(found) : NULL;
	char	   *colon = text != NULL ? strchr(text, ':') : NULL;

	*user = *password = NULL;
	for (size_t i = 0; i < parts->headers.count; i++)
	{
		OutboxHttpPair *pair = &parts->headers.list[i];

		if (strcasecmp(pair->name, "Authorization") == 0)
			explicit_bzero(pair->value, strlen(pair->value));
	}
	if (colon != NULL)
	{
		*colon = '\0';
		*user = strdup(text);
		*password = strdup(colon + 1);
		explicit_bzero(colon + 1, strlen(colon + 1));
	}
	outbox_http_request_wipe(text);
	return *user != NULL && *password != NULL;
}
