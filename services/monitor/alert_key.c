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
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MARK_SIZE	17			/* '#' and 16 digits */

/* FNV-1a, 64 bits. */
static uint64_t
hash_text(const char *text)
{
	uint64_t	hash = 14695981039346656037u;

	for (; *text != '\0'; text++)
		hash = (hash ^ (unsigned char) *text) * 1099511628211u;
	return hash;
}

void
outbox_alert_key_cut(char *key, size_t size, const char *text)
{
	size_t		len = strlen(text);

	if (len < size)
	{
		memcpy(key, text, len + 1);
		return;
	}
	len = size - 1 - MARK_SIZE;
	while (len > 0 && ((unsigned char) text[len] & 0xC0) == 0x80)
		len--;
	snprintf(key, size, "%.*s#%016llx", (int) len, text, (unsigned long long) hash_text(text));
}

void
outbox_alert_key(char key[OUTBOX_ALERT_KEY], const char *format, ...)
{
	char	   *text;
	va_list		arguments;
	int			len;

	va_start(arguments, format);
	len = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (len < 0)
		abort();
	outbox_alert_key_cut(key, OUTBOX_ALERT_KEY, text);
	free(text);
}
