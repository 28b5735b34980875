/* SPDX-License-Identifier: PostgreSQL
 *
 * http_guard.c
 *	  Where two readers of one request may differ, it is refused (RFC 9112, 6.3 and 11.2).
 *
 * Pure.
 */
#define _GNU_SOURCE
#include "http_guard.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "config.h"

#define DIGITS_MAX	   18
#define NAME_MAX_BYTES 255

static const char token_marks[] = "!#$%&'*+-.^_`|~";
static const char host_marks[] = ".:-_[]";

static bool
is_letter_or(char byte, const char *marks)
{
	return (isascii((unsigned char) byte) && isalnum((unsigned char) byte)) ||
		(byte != '\0' && strchr(marks, byte) != NULL);
}

static bool
consists_of(const char *text, size_t len, const char *marks)
{
	for (size_t i = 0; i < len; i++)
	{
		if (!is_letter_or(text[i], marks))
			return false;
	}
	return true;
}

bool
outbox_http_is_token(const char *name)
{
	return *name != '\0' && consists_of(name, strlen(name), token_marks);
}

/* Length without the blanks at the end, which are no part of a value. */
static size_t
trimmed(const char *value)
{
	size_t len = strlen(value);

	while (len > 0 && (value[len - 1] == ' ' || value[len - 1] == '\t'))
		len--;
	return len;
}

/*
 * A line that goes on in the next one: libmicrohttpd 0.9.75 puts what follows behind the name, so
 * that a length is none any more.
 */
static bool
goes_on(const char *name)
{
	static const char *const framing[] = {"Content-Length", "Transfer-Encoding"};

	for (size_t i = 0; i < sizeof(framing) / sizeof(framing[0]); i++)
	{
		size_t len = strlen(framing[i]);

		if (strncasecmp(name, framing[i], len) == 0 && name[len] != '\0')
			return true;
	}
	return false;
}

static bool
has_control(const char *value)
{
	for (; *value != '\0'; value++)
	{
		if (((unsigned char) *value < 0x20 && *value != '\t') || *value == 0x7F)
			return true;
	}
	return false;
}

static const char *
judge_pair(const OutboxHttpPair *pair)
{
	if (!outbox_http_is_token(pair->name))
		return "a header's name has a blank or another character that is none of a name";
	if (goes_on(pair->name))
		return "a length or coding that goes on in the next line";
	if (has_control(pair->value))
		return "a header's value has a control character";
	return NULL;
}

/* Value of the header; *count: how often it is there. */
static const char *
count_header(const OutboxHttpPairs *headers, const char *name, int *count)
{
	const char *value = NULL;

	*count = 0;
	for (size_t i = 0; i < headers->count; i++)
	{
		if (strcasecmp(headers->list[i].name, name) != 0)
			continue;
		value = headers->list[i].value;
		(*count)++;
	}
	return value;
}

static const char *
judge_length(const OutboxHttpPairs *headers, bool old)
{
	int			lengths;
	int			codings;
	const char *length = count_header(headers, "Content-Length", &lengths);
	const char *coding = count_header(headers, "Transfer-Encoding", &codings);

	if (lengths > 1)
		return "more than one Content-Length";
	if (lengths == 1 &&
		(trimmed(length) == 0 || trimmed(length) > DIGITS_MAX ||
		 strspn(length, "0123456789") != trimmed(length)))
		return "Content-Length is no number";
	if (lengths == 1 && codings > 0)
		return "Content-Length and Transfer-Encoding";
	if (codings > 1 || (codings == 1 && (old || strcasecmp(coding, "chunked") != 0)))
		return "a Transfer-Encoding other than chunked";
	return NULL;
}

const char *
outbox_http_guard(const OutboxHttpPairs *headers, const char *version)
{
	bool		old = strcmp(version, "HTTP/1.0") == 0;
	int			hosts;
	const char *host = count_header(headers, "Host", &hosts);

	for (size_t i = 0; i < headers->count; i++)
	{
		const char *wrong = judge_pair(&headers->list[i]);

		if (wrong != NULL)
			return wrong;
	}
	if (hosts > 1)
		return "more than one Host";
	if (hosts == 0 && !old)
		return "no Host";
	if (hosts == 1 && !consists_of(host, trimmed(host), host_marks))
		return "Host is no name of a host";
	return judge_length(headers, old);
}

/* Without port, brackets and the dot at the end. */
static void
cut_host(const char *host, char *name)
{
	size_t len = trimmed(host);
	char  *end;

	snprintf(name, NAME_MAX_BYTES + 1, "%.*s", (int) len, host);
	if (name[0] == '[')
	{
		memmove(name, name + 1, strlen(name));
		end = strchr(name, ']');
	}
	else
		end = strchr(name, ':');
	if (end != NULL)
		*end = '\0';
	len = strlen(name);
	if (len > 0 && name[len - 1] == '.')
		name[len - 1] = '\0';
}

static bool
is_address(const char *name)
{
	struct in6_addr address;

	return inet_pton(AF_INET, name, &address) == 1 || inet_pton(AF_INET6, name, &address) == 1;
}

static bool
is_listed(const char *names, const char *name)
{
	char *copy = strdup(names);
	char *rest = copy;
	char *item;
	bool  listed = false;

	while (!listed && copy != NULL && (item = outbox_config_next_item(&rest)) != NULL)
		listed = strcmp(item, "*") == 0 || strcasecmp(item, name) == 0;
	free(copy);
	return listed;
}

bool
outbox_http_host_fits(const char *host, const char *names)
{
	char name[NAME_MAX_BYTES + 1];

	if (host == NULL)
		return true;
	cut_host(host, name);
	return is_address(name) || strcasecmp(name, "localhost") == 0 || is_listed(names, name);
}

bool
outbox_http_check_hosts(const char *value, char *error, size_t size)
{
	char *copy = strdup(value);
	char *rest = copy;
	char *item;
	bool  good = copy != NULL;

	while (good && (item = outbox_config_next_item(&rest)) != NULL)
		good = strcmp(item, "*") == 0 ||
			(strlen(item) <= NAME_MAX_BYTES && consists_of(item, strlen(item), ".-_"));
	if (!good)
		snprintf(error, size, "an item is neither a name without a port nor *");
	free(copy);
	return good;
}
