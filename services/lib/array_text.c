/* SPDX-License-Identifier: PostgreSQL
 *
 * array_text.c
 *	  PostgreSQL array literals, put together on a memory stream.
 *
 * Runs in the services, member threads.  A lack of memory ends the process:
 * nothing of a batch is committed then, and it is read again.
 */
#define _GNU_SOURCE
#include "array_text.h"

#include <inttypes.h>
#include <stdlib.h>

void
outbox_array_begin(OutboxArrayText *array)
{
	array->text = NULL;
	array->size = array->count = 0;
	array->out = open_memstream(&array->text, &array->size);
	if (array->out == NULL)
		abort();
	putc_unlocked('{', array->out);
}

static void
separate(OutboxArrayText *array)
{
	if (array->count++ > 0)
		putc_unlocked(',', array->out);
}

void
outbox_array_add_integer(OutboxArrayText *array, int64_t value)
{
	separate(array);
	fprintf(array->out, "%" PRId64, value);
}

void
outbox_array_add_null(OutboxArrayText *array)
{
	separate(array);
	fputs("NULL", array->out);
}

void
outbox_array_add_text(OutboxArrayText *array, const char *value)
{
	if (value == NULL)
	{
		outbox_array_add_null(array);
		return;
	}
	separate(array);
	putc_unlocked('"', array->out);
	for (; *value != '\0'; value++)
	{
		if (*value == '"' || *value == '\\')
			putc_unlocked('\\', array->out);
		putc_unlocked(*value, array->out);
	}
	putc_unlocked('"', array->out);
}

void
outbox_array_add_bytes(OutboxArrayText *array, const uint8_t *data, size_t len)
{
	static const char digits[] = "0123456789abcdef";

	if (data == NULL)
	{
		outbox_array_add_null(array);
		return;
	}
	separate(array);
	fputs("\"\\\\x", array->out);
	for (size_t i = 0; i < len; i++)
	{
		putc_unlocked(digits[data[i] >> 4], array->out);
		putc_unlocked(digits[data[i] & 15], array->out);
	}
	putc_unlocked('"', array->out);
}

void
outbox_array_finish(OutboxArrayText *array)
{
	putc_unlocked('}', array->out);
	if (fclose(array->out) != 0 || array->text == NULL)
		abort();
	array->out = NULL;
}
