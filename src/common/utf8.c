/* SPDX-License-Identifier: PostgreSQL
 *
 * utf8.c
 *	  Which bytes are UTF-8, and which of its characters a CloudEvents attribute may hold.
 */
#include "utf8.h"

static bool
goes_on(unsigned char byte)
{
	return (byte & 0xC0) == 0x80;
}

size_t
outbox_utf8_char(const char *text, size_t len)
{
	const unsigned char *at = (const unsigned char *) text;
	size_t				 size;

	if (len == 0)
		return 0;
	if (at[0] < 0x80)
		return 1;
	size = at[0] >= 0xF0 ? 4 : at[0] >= 0xE0 ? 3 : 2;
	if (at[0] < 0xC2 || at[0] > 0xF4 || size > len)
		return 0;
	for (size_t i = 1; i < size; i++)
	{
		if (!goes_on(at[i]))
			return 0;
	}
	/* longer than it must be, a surrogate, or above U+10FFFF */
	if ((at[0] == 0xE0 && at[1] < 0xA0) || (at[0] == 0xED && at[1] > 0x9F) ||
		(at[0] == 0xF0 && at[1] < 0x90) || (at[0] == 0xF4 && at[1] > 0x8F))
		return 0;
	return size;
}

bool
outbox_utf8_valid(const char *text, size_t len)
{
	while (len > 0)
	{
		size_t size = outbox_utf8_char(text, len);

		if (size == 0)
			return false;
		text += size;
		len -= size;
	}
	return true;
}

int32_t
outbox_utf8_code(const char *text, size_t size)
{
	const unsigned char *at = (const unsigned char *) text;
	int32_t				 code = size == 1 ? at[0] : at[0] & (0x7F >> size);

	for (size_t i = 1; i < size; i++)
		code = code << 6 | (at[i] & 0x3F);
	return code;
}

static bool
is_excluded(int32_t code)
{
	return code < 0x20 || (code >= 0x7F && code <= 0x9F) || (code >= 0xFDD0 && code <= 0xFDEF) ||
		(code & 0xFFFE) == 0xFFFE;
}

int32_t
outbox_utf8_excluded(const char *text, size_t len)
{
	while (len > 0)
	{
		size_t	size = outbox_utf8_char(text, len);
		int32_t code;

		if (size == 0)
			break;
		code = outbox_utf8_code(text, size);
		if (is_excluded(code))
			return code;
		text += size;
		len -= size;
	}
	return -1;
}
