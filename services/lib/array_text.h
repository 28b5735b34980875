/* SPDX-License-Identifier: PostgreSQL
 *
 * array_text.h
 *	  PostgreSQL array literals, put together on a memory stream.
 */
#ifndef OUTBOX_ARRAY_TEXT_H
#define OUTBOX_ARRAY_TEXT_H

#include <stdint.h>
#include <stdio.h>

typedef struct OutboxArrayText
{
	FILE  *out;
	char  *text; /* valid after outbox_array_finish; the caller frees it */
	size_t size;
	size_t count;
} OutboxArrayText;

extern void outbox_array_begin(OutboxArrayText *array);
extern void outbox_array_add_integer(OutboxArrayText *array, int64_t value);
extern void outbox_array_add_text(OutboxArrayText *array, const char *value); /* NULL: NULL */
/* as bytea */
extern void outbox_array_add_bytes(OutboxArrayText *array, const uint8_t *data, size_t len);
extern void outbox_array_add_null(OutboxArrayText *array);
extern void outbox_array_finish(OutboxArrayText *array);

#endif /* OUTBOX_ARRAY_TEXT_H */
