/* SPDX-License-Identifier: PostgreSQL
 *
 * alert_key.c
 *	  The name of an alert, of bounded length.
 *
 * Runs in outbox-monitor, any thread; and in the unit tests.
 */
#define _GNU_SOURCE
#include "alert_key.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/common/hash.h"

#define MARK_SIZE 17 /* '#' and 16 digits */

void
outbox_alert_key_cut(char *key, size_t size, const char *text)
{
	size_t text_len = strlen(text);
	size_t len;

	if (text_len < size)
	{
		memcpy(key, text, text_len + 1);
		return;
	}
	len = size - 1 - MARK_SIZE;
	while (len > 0 && ((unsigned char) text[len] & 0xC0) == 0x80)
		len--;
	snprintf(key, size, "%.*s#%016llx", (int) len, text,
			 (unsigned long long) outbox_hash_bytes(text, text_len));
}

void
outbox_alert_key(char key[OUTBOX_ALERT_KEY], const char *format, ...)
{
	char   *text;
	va_list arguments;
	int		len;

	va_start(arguments, format);
	len = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (len < 0)
		abort();
	outbox_alert_key_cut(key, OUTBOX_ALERT_KEY, text);
	free(text);
}
