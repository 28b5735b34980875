/* SPDX-License-Identifier: PostgreSQL
 *
 * call.c
 *	  Helpers of handlers: JSON in, one SQL call out.
 *
 * Runs in the services, member threads.
 */
#include "call.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "services/lib/bytea.h"


void
outbox_call_begin(OutboxCall *call, const char *sql)
{
	outbox_call_clear(call);
	call->sql = sql;
}

/* A copy of the value; NULL for NULL. */
static char *
copy_value(const char *value, size_t len)
{
	char *copy = value != NULL ? strndup(value, len) : NULL;

	if (value != NULL && copy == NULL)
		abort(); /* no memory for a few hundred bytes */
	return copy;
}

void
outbox_call_add(OutboxCall *call, const char *value, size_t len)
{
	if (call->count == OUTBOX_CALL_VALUES)
		abort();
	call->values[call->count++] = copy_value(value, len);
}

void
outbox_call_add_text(OutboxCall *call, const char *value)
{
	outbox_call_add(call, value, value != NULL ? strlen(value) : 0);
}

void
outbox_call_set_text(OutboxCall *call, int index, const char *value)
{
	if (index < 0 || index >= call->count)
		abort();
	free(call->values[index]);
	call->values[index] = copy_value(value, value != NULL ? strlen(value) : 0);
}

void
outbox_call_add_bytes(OutboxCall *call, const uint8_t *value, size_t len)
{
	char *text = outbox_bytea_text(value, len);

	outbox_call_add_text(call, text);
	free(text);
}

void
outbox_call_clear(OutboxCall *call)
{
	for (int i = 0; i < call->count; i++)
		free(call->values[i]);
	call->count = 0;
	call->sql = NULL;
	call->error.failure = OUTBOX_FAILURE_NONE;
}

static void
set_error(OutboxCall *call, OutboxDbFailure failure, const char *format, va_list arguments)
{
	char text[1024];

	vsnprintf(text, sizeof(text), format, arguments);
	outbox_error_set(&call->error, failure, NULL, text);
}

OutboxVerdict
outbox_call_reject(OutboxCall *call, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	set_error(call, OUTBOX_FAILURE_DECODE, format, arguments);
	va_end(arguments);
	return OUTBOX_VERDICT_REJECT;
}

OutboxVerdict
outbox_call_fail(OutboxCall *call, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	set_error(call, OUTBOX_FAILURE_RECORD, format, arguments);
	va_end(arguments);
	return OUTBOX_VERDICT_FAIL;
}

OutboxVerdict
outbox_call_wait(OutboxCall *call, const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	set_error(call, OUTBOX_FAILURE_INFRASTRUCTURE, format, arguments);
	va_end(arguments);
	return OUTBOX_VERDICT_WAIT;
}

json_t *
outbox_decode_object(const OutboxRecord *record, OutboxCall *call)
{
	json_error_t error;
	json_t		*object;

	if (record->value == NULL)
	{
		outbox_call_reject(call, "the record has no value");
		return NULL;
	}
	object = json_loadb((const char *) record->value, record->value_len, 0, &error);
	if (object == NULL)
		outbox_call_reject(call, "not JSON: %s at byte %d", error.text, error.position);
	else if (!json_is_object(object))
	{
		outbox_call_reject(call, "not a JSON object");
		json_decref(object);
		object = NULL;
	}
	return object;
}

bool
outbox_decode_require(const json_t *object, const char *name, json_type type, OutboxCall *call)
{
	static const char *const kinds[] = {"an object", "an array", "a string", "a whole number",
										"a number",	 "true",	 "false",	 "null"};
	const json_t			*field = json_object_get(object, name);

	if (field == NULL)
	{
		outbox_call_reject(call, "required field \"%s\" is missing", name);
		return false;
	}
	/* A whole number is also a number. */
	if (json_typeof(field) != type && !(type == JSON_REAL && json_is_integer(field)))
	{
		outbox_call_reject(call, "field \"%s\" is not %s", name, kinds[type]);
		return false;
	}
	if (type == JSON_STRING && json_string_length(field) == 0)
	{
		outbox_call_reject(call, "field \"%s\" is empty", name);
		return false;
	}
	return true;
}

OutboxVerdict
outbox_decode_call(const OutboxRecord *record, const char *required, const char *sql,
				   OutboxCall *call)
{
	json_t		 *event = outbox_decode_object(record, call);
	OutboxVerdict verdict = OUTBOX_VERDICT_REJECT;

	if (event == NULL)
		return verdict;
	if (outbox_decode_require(event, required, JSON_STRING, call))
	{
		outbox_call_begin(call, sql);
		outbox_call_add(call, (const char *) record->value, record->value_len);
		verdict = OUTBOX_VERDICT_CALL;
	}
	json_decref(event);
	return verdict;
}
