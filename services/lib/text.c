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

#include "src/common/utf8.h"

/* Where the last character begins when the text ends within it; else len. */
static size_t
find_cut(const char *text, size_t len)
{
	for (size_t back = 1; back < 4 && back <= len; back++)
	{
		uint8_t byte = (uint8_t) text[len - back];

		if (byte >= 0xc0)
			return outbox_utf8_char(text + len - back, back) == back ? len : len - back;
		if (byte < 0x80)
			break;
	}
	return len;
}

void
outbox_text_mend(char *buffer, size_t size)
{
	size_t len = strlen(buffer);

	if (len + 1 == size)
	{
		len = find_cut(buffer, len);
		buffer[len] = '\0';
	}
	for (size_t i = 0; i < len;)
	{
		size_t width = outbox_utf8_char(buffer + i, len - i);

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

char *
outbox_text_keep(const char *text)
{
	char *copy = strdup(text);

	if (copy == NULL)
		abort();
	return copy;
}

char *
outbox_text_header(const void *bytes, size_t len, size_t max)
{
	const char *from = bytes;
	char	   *text = malloc(3 * len + 1);
	size_t		used = 0;

	if (text == NULL)
		abort(); /* nothing is committed, the record is read again */
	for (size_t i = 0; i < len;)
	{
		size_t width = outbox_utf8_char(from + i, len - i);
		bool   escaped = width == 0 || outbox_utf8_excluded(from + i, width) >= 0;

		width += width == 0;
		if (used + (escaped ? 3 * width : width) > max)
			break;
		for (size_t end = i + width; i < end; i++)
		{
			if (escaped)
				used += (size_t) sprintf(text + used, "%%%02X", (unsigned char) from[i]);
			else
				text[used++] = from[i];
		}
	}
	text[used] = '\0';
	return text;
}
