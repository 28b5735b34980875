/* SPDX-License-Identifier: PostgreSQL
 *
 * http_pairs.c
 *	  Lists of names and values, and what %XX stands for.
 *
 * Pure.
 */
#define _GNU_SOURCE
#include "http_pairs.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/common/utf8.h"

#define PARSED_MAX 100

bool
outbox_http_pairs_add(OutboxHttpPairs *pairs, const char *name, const char *value)
{
	OutboxHttpPair	pair = {strdup(name), strdup(value != NULL ? value : "")};
	OutboxHttpPair *grown = reallocarray(pairs->list, pairs->count + 1, sizeof(OutboxHttpPair));

	if (grown != NULL)
		pairs->list = grown;
	if (grown == NULL || pair.name == NULL || pair.value == NULL)
	{
		free(pair.name);
		free(pair.value);
		return false;
	}
	pairs->list[pairs->count++] = pair;
	return true;
}

const char *
outbox_http_pairs_find(const OutboxHttpPairs *pairs, const char *name, bool any_case)
{
	for (size_t i = 0; i < pairs->count; i++)
	{
		if ((any_case ? strcasecmp : strcmp)(pairs->list[i].name, name) == 0)
			return pairs->list[i].value;
	}
	return NULL;
}

void
outbox_http_pairs_free(OutboxHttpPairs *pairs)
{
	for (size_t i = 0; i < pairs->count; i++)
	{
		free(pairs->list[i].name);
		free(pairs->list[i].value);
	}
	free(pairs->list);
	*pairs = (OutboxHttpPairs) {0};
}

static int
hex_digit(char digit)
{
	if (digit >= '0' && digit <= '9')
		return digit - '0';
	return tolower((unsigned char) digit) - 'a' + 10;
}

bool
outbox_http_unescape(char *text, bool plus)
{
	char *to = text;

	for (const char *from = text; *from != '\0'; from++)
	{
		if (from[0] == '%' && isxdigit((unsigned char) from[1]) &&
			isxdigit((unsigned char) from[2]))
		{
			*to = (char) (hex_digit(from[1]) * 16 + hex_digit(from[2]));
			if (*to++ == '\0')
				return false;
			from += 2;
		}
		else
			*to++ = plus && *from == '+' ? ' ' : *from;
	}
	*to = '\0';
	return outbox_utf8_valid(text, (size_t) (to - text));
}

static bool
parse_pair(OutboxHttpPairs *pairs, char *text)
{
	char *value = strchr(text, '=');

	if (value != NULL)
		*value++ = '\0';
	if (pairs->count == PARSED_MAX || !outbox_http_unescape(text, true) ||
		(value != NULL && !outbox_http_unescape(value, true)))
		return false;
	return outbox_http_pairs_add(pairs, text, value);
}

bool
outbox_http_pairs_parse(OutboxHttpPairs *pairs, const char *text)
{
	char *copy = strdup(text);
	char *rest = copy;
	char *part;
	bool  good = copy != NULL;

	while (good && (part = strsep(&rest, "&")) != NULL)
		good = *part == '\0' || parse_pair(pairs, part);
	free(copy);
	return good;
}
