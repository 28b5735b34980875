/* SPDX-License-Identifier: PostgreSQL
 *
 * uri.c
 *	  ce_source, which is a URI reference (RFC 3986).
 */
#include "uri.h"

#include <string.h>

#define LETTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS	"0123456789"
#define HEX		DIGITS "abcdefABCDEF"
#define PCHAR	LETTERS DIGITS "-._~!$&'()*+,;=:@" /* besides % and two hex digits */

static bool
is_one_of(char byte, const char *set)
{
	return byte != '\0' && strchr(set, byte) != NULL;
}

/* Are all of these bytes in the set, or percent-encoded? */
static bool
consists_of(const char *at, const char *end, const char *set)
{
	for (; at < end; at++)
	{
		if (*at == '%' && end - at > 2 && is_one_of(at[1], HEX) && is_one_of(at[2], HEX))
			at += 2;
		else if (!is_one_of(*at, set))
			return false;
	}
	return true;
}

/* What stands before the first colon; a path without a scheme has none in its first segment. */
static bool
is_scheme(const char *at, const char *end)
{
	return at < end && is_one_of(*at, LETTERS) &&
		strspn(at, LETTERS DIGITS "+-.") == (size_t) (end - at);
}

/* [userinfo@]host[:port]; brackets around an IP literal alone. */
static bool
is_authority(const char *at, const char *end)
{
	const char *user = memchr(at, '@', (size_t) (end - at));
	const char *bracket;

	if (user != NULL)
	{
		if (!consists_of(at, user, LETTERS DIGITS "-._~!$&'()*+,;=:"))
			return false;
		at = user + 1;
	}
	if (at < end && *at == '[')
	{
		bracket = memchr(at, ']', (size_t) (end - at));
		if (bracket == NULL || bracket == at + 1 || !consists_of(at + 1, bracket, HEX ":.vV"))
			return false;
		at = bracket + 1;
	}
	else
	{
		const char *port = memchr(at, ':', (size_t) (end - at));

		if (port == NULL)
			port = end;
		if (!consists_of(at, port, LETTERS DIGITS "-._~!$&'()*+,;="))
			return false;
		at = port;
	}
	return at == end || (*at == ':' && strspn(at + 1, DIGITS) >= (size_t) (end - at - 1));
}

bool
outbox_uri_is_reference(const char *text)
{
	const char *at = text;
	const char *end = text + strlen(text);
	const char *fragment = strchr(text, '#');
	const char *query;
	const char *first = text + strcspn(text, ":/?#");

	if (*text == '\0')
		return false;
	if (fragment != NULL && !consists_of(fragment + 1, end, PCHAR "/?"))
		return false;
	if (fragment != NULL)
		end = fragment;
	query = memchr(text, '?', (size_t) (end - text));
	if (query != NULL && !consists_of(query + 1, end, PCHAR "/?"))
		return false;
	if (query != NULL)
		end = query;
	if (*first == ':')
	{
		if (!is_scheme(text, first))
			return false;
		at = first + 1;
	}
	if (end - at >= 2 && at[0] == '/' && at[1] == '/')
	{
		const char *path = memchr(at + 2, '/', (size_t) (end - at - 2));

		if (path == NULL)
			path = end;
		if (!is_authority(at + 2, path))
			return false;
		at = path;
	}
	return consists_of(at, end, PCHAR "/");
}

char *
outbox_uri_segment(char *dst, const char *bytes, size_t len)
{
	static const char digits[] = "0123456789ABCDEF";
	char			 *end = dst;

	for (size_t i = 0; i < len; i++)
	{
		unsigned char byte = (unsigned char) bytes[i];

		if (is_one_of((char) byte, PCHAR))
			*end++ = (char) byte;
		else
		{
			*end++ = '%';
			*end++ = digits[byte >> 4];
			*end++ = digits[byte & 15];
		}
	}
	*end = '\0';
	return dst;
}
