/* SPDX-License-Identifier: PostgreSQL
 *
 * text.c
 *	  Bytes from outside as UTF-8 text, and text cut between two characters.
 *
 * Runs in the services, any thread.
 */
#include "text.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

size_t
outbox_text_character(const void *bytes, size_t len)
{
	const uint8_t *text = bytes;
	uint8_t		low = 0x80;		/* of the second byte: what is no surrogate, too long or above U+10FFFF */
	uint8_t		high = 0xbf;
	size_t		width;

	if (text[0] < 0x80)
		return 1;
	if (text[0] < 0xc2 || text[0] > 0xf4)
		return 0;
	width = text[0] < 0xe0 ? 2 : text[0] < 0xf0 ? 3 : 4;
	low = text[0] == 0xe0 ? 0xa0 : text[0] == 0xf0 ? 0x90 : low;
	high = text[0] == 0xed ? 0x9f : text[0] == 0xf4 ? 0x8f : high;
	if (len < width || text[1] < low || text[1] > high)
		return 0;
	for (size_t i = 2; i < width; i++)
	{
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	}
	return width;
}

/* Where the last character begins when the text ends within it; else len. */
static size_t
find_cut(const char *text, size_t len)
{
	for (size_t back = 1; back < 4 && back <= len; back++)
	{
		uint8_t		byte = (uint8_t) text[len - back];

		if (byte >= 0xc0)
			return outbox_text_character(text + len - back, back) == back ? len : len - back;
		if (byte < 0x80)
			break;
	}
	return len;
}

void
outbox_text_mend(char *buffer, size_t size)
{
	size_t		len = strlen(buffer);

	if (len + 1 == size)
	{
		len = find_cut(buffer, len);
		buffer[len] = '\0';
	}
	for (size_t i = 0; i < len;)
	{
		size_t		width = outbox_text_character(buffer + i, len - i);

		if (width == 0)
			buffer[i] = '?';
		i += width > 0 ? width : 1;
	}
}

void
outbox_text_copy(char *buffer, size_t size, const char *text)
{
	snprintf(buffer, size, "%s", text);
	outbox_text_mend(buffer, size);
}

/* What an event's type may not hold: control characters (C0, DEL, C1), and what Unicode says is no character. */
static bool
is_excluded(const uint8_t *text, size_t width)
{
	uint32_t	code = width == 1 ? text[0] : text[0] & (0x7fu >> width);

	for (size_t i = 1; i < width; i++)
		code = code << 6 | (text[i] & 0x3f);
	return code < ' ' || (code >= 0x7f && code < 0xa0) || (code >= 0xfdd0 && code <= 0xfdef) || (code & 0xfffe) == 0xfffe;
}

char *
outbox_text_header(const void *bytes, size_t len, size_t max)
{
	const uint8_t *from = bytes;
	char	   *text = malloc(3 * len + 1);
	size_t		used = 0;

	if (text == NULL)
		abort();				/* nothing is committed, the record is read again */
	for (size_t i = 0; i < len;)
	{
		size_t		width = outbox_text_character(from + i, len - i);
		bool		escaped = width == 0 || is_excluded(from + i, width);

		width += width == 0;
		if (used + (escaped ? 3 * width : width) > max)
			break;
		for (size_t end = i + width; i < end; i++)
		{
			if (escaped)
				used += (size_t) sprintf(text + used, "%%%02X", from[i]);
			else
				text[used++] = (char) from[i];
		}
	}
	text[used] = '\0';
	return text;
}
