/* SPDX-License-Identifier: PostgreSQL
 *
 * trace_context.c
 *	  Reads, makes and prints W3C trace contexts.
 *
 * Runs in the services, any thread.
 */
#define _GNU_SOURCE
#include "trace_context.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define TRACEPARENT_MAX 512 /* what outbox.traceparent takes */

/* Flags of version 00 that have a meaning: sampled, and (level 2) a random trace id. */
#define KNOWN_FLAGS 0x03

static bool
is_hex(const char *text, size_t len)
{
	return strspn(text, "0123456789abcdef") >= len;
}

/* Printable ASCII: what a later version of the format may hold behind the flags is passed on. */
static bool
is_printable(const char *text)
{
	for (; *text != '\0'; text++)
	{
		if (*text < ' ' || *text > '~')
			return false;
	}
	return true;
}

static bool
is_zero(const char *text)
{
	return text[strspn(text, "0")] == '\0';
}

bool
outbox_trace_parse(const char *text, OutboxTraceContext *context)
{
	size_t len = strlen(text);

	memset(context, 0, sizeof(*context));
	if (len < OUTBOX_TRACEPARENT_TEXT - 1 || len > TRACEPARENT_MAX || text[2] != '-' ||
		text[35] != '-' || text[52] != '-' || !is_hex(text, 2) || !is_hex(text + 3, 32) ||
		!is_hex(text + 36, 16) || !is_hex(text + 53, 2) || strncmp(text, "ff", 2) == 0 ||
		!is_printable(text))
		return false;
	/* Version 00 ends here; a later one may only go on after a dash. */
	if (len > OUTBOX_TRACEPARENT_TEXT - 1 && (strncmp(text, "00", 2) == 0 || text[55] != '-'))
		return false;
	memcpy(context->trace_id, text + 3, 32);
	memcpy(context->span_id, text + 36, 16);
	context->flags =
		(unsigned) strtoul((const char[]) {text[53], text[54], '\0'}, NULL, 16) & KNOWN_FLAGS;
	return !is_zero(context->trace_id) && !is_zero(context->span_id);
}

/* len hex digits, not all zero. */
static void
make_id(char *text, size_t len)
{
	uint8_t bytes[16];

	do
	{
		if (getrandom(bytes, len / 2, 0) != (ssize_t) (len / 2))
			abort(); /* cannot be for so few bytes */
		for (size_t i = 0; i < len / 2; i++)
			sprintf(text + 2 * i, "%02x", bytes[i]);
	} while (is_zero(text));
}

void
outbox_trace_make(const char *traceparent, OutboxTraceContext *context)
{
	if (traceparent != NULL && outbox_trace_parse(traceparent, context))
		memcpy(context->parent_id, context->span_id, OUTBOX_SPAN_ID_TEXT);
	else
	{
		memset(context, 0, sizeof(*context));
		make_id(context->trace_id, OUTBOX_TRACE_ID_TEXT - 1);
		context->flags = OUTBOX_TRACE_SAMPLED;
	}
	make_id(context->span_id, OUTBOX_SPAN_ID_TEXT - 1);
}

void
outbox_trace_print(const OutboxTraceContext *context, char text[OUTBOX_TRACEPARENT_TEXT])
{
	snprintf(text, OUTBOX_TRACEPARENT_TEXT, "00-%s-%s-%02x", context->trace_id, context->span_id,
			 context->flags & 0xff);
}
