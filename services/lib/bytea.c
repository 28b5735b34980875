/* SPDX-License-Identifier: PostgreSQL
 *
 * bytea.c
 *	  Bytes as PostgreSQL reads them.
 *
 * Runs in the services, any thread.  No state.
 */
#include "bytea.h"

#include <stdlib.h>
#include <string.h>

char *
outbox_bytea_text(const uint8_t *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";
	char			 *text;

	if (data == NULL)
		return NULL;
	text = malloc(2 * len + 3);
	if (text == NULL)
		abort(); /* nothing is committed, the record is read again */
	text[0] = '\\';
	text[1] = 'x';
	for (size_t i = 0; i < len; i++)
	{
		text[2 * i + 2] = digits[data[i] >> 4];
		text[2 * i + 3] = digits[data[i] & 15];
	}
	text[2 * len + 2] = '\0';
	return text;
}

char *
outbox_bytea_of_text(const char *text)
{
	return outbox_bytea_text((const uint8_t *) text, text != NULL ? strlen(text) : 0);
}
