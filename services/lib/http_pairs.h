/* SPDX-License-Identifier: PostgreSQL
 *
 * http_pairs.h
 *	  Names with values: headers, query arguments, fields of a form.
 *
 * Pure.  A list belongs to one thread; {0} is an empty one.
 */
#ifndef OUTBOX_HTTP_PAIRS_H
#define OUTBOX_HTTP_PAIRS_H

#include <stdbool.h>
#include <stddef.h>

typedef struct OutboxHttpPair
{
	char *name;
	char *value;
} OutboxHttpPair;

typedef struct OutboxHttpPairs
{
	OutboxHttpPair *list;
	size_t			count;
} OutboxHttpPairs;

/* Adds a copy; NULL value: "".  false: out of memory. */
extern bool outbox_http_pairs_add(OutboxHttpPairs *pairs, const char *name, const char *value);

/* Value of the first pair of that name, NULL: none.  Names of headers differ not by case. */
extern const char *outbox_http_pairs_find(const OutboxHttpPairs *pairs, const char *name,
										  bool any_case);

extern void outbox_http_pairs_free(OutboxHttpPairs *pairs);

/*
 * Puts the bytes of %XX in their places, and blanks in those of plus signs if asked to; what is no
 * escape stays.  false: a zero byte, or bytes that are no UTF-8.
 */
extern bool outbox_http_unescape(char *text, bool plus);

/*
 * Adds name=value&name=value as unescaped; false: as outbox_http_unescape, more than 100 of them,
 * or out of memory.
 */
extern bool outbox_http_pairs_parse(OutboxHttpPairs *pairs, const char *text);

#endif /* OUTBOX_HTTP_PAIRS_H */
