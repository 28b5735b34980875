/* SPDX-License-Identifier: PostgreSQL
 *
 * failure.c
 *	  Why something could not be done, put together from what librdkafka says.
 *
 * Runs in the sender, main thread.
 */
#include "failure.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "errors.h"
#include "notes.h"
#include "src/common/text.h"

#define LONG_TEXT_SIZE 4096 /* before it is cut to what it must fit into */

/* tried: what was under way, as in "fencing".  A text that is too long is cut. */
void
outbox_failure_set(OutboxFailure *failure, OutboxErrorClass class, int kafka_error,
				   const char *tried, const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	va_list args;

	failure->class = class;
	failure->kafka_error = kafka_error;
	snprintf(failure->tried, sizeof(failure->tried), "%s", tried);
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	outbox_text_fit(failure->text, sizeof(failure->text), text);
}

/* Puts it before the text, with a colon between: the cause comes last. */
void
outbox_failure_precede(OutboxFailure *failure, const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	va_list args;
	size_t	len;

	va_start(args, format);
	vsnprintf(text, sizeof(text) - sizeof(failure->text) - 2, format, args);
	va_end(args);
	len = strlen(text);
	snprintf(text + len, sizeof(text) - len, ": %s", failure->text);
	outbox_text_fit(failure->text, sizeof(failure->text), text);
}

/* Adds to the text. */
void
outbox_failure_append(OutboxFailure *failure, const char *format, ...)
{
	char	text[LONG_TEXT_SIZE];
	size_t	len = strlen(failure->text);
	va_list args;

	memcpy(text, failure->text, len);
	va_start(args, format);
	vsnprintf(text + len, sizeof(text) - len, format, args);
	va_end(args);
	outbox_text_fit(failure->text, sizeof(failure->text), text);
}

/*
 * When Kafka is away the call only says "timed out"; why the connections fail
 * was told to the error callback.
 */
static void
add_client_error(OutboxFailure *failure)
{
	if (failure->class != OUTBOX_ERROR_RETRIABLE || outbox_client_error_text() == NULL)
		return;
	failure->class = outbox_client_error_class();
	outbox_failure_append(failure, " (%s)", outbox_client_error_text());
}

/* text NULL: librdkafka's own text of the code. */
void
outbox_failure_from_code(OutboxFailure *failure, rd_kafka_resp_err_t code, const char *tried,
						 const char *text)
{
	outbox_failure_set(failure, outbox_error_classify(code), code, tried, "%s",
					   text != NULL ? text : rd_kafka_err2str(code));
	add_client_error(failure);
}

/* Takes over the error object. */
void
outbox_failure_from_error(OutboxFailure *failure, rd_kafka_error_t *error, const char *tried)
{
	rd_kafka_resp_err_t code = rd_kafka_error_code(error);
	OutboxErrorClass class = outbox_error_classify(code);

	if (class == OUTBOX_ERROR_FATAL && rd_kafka_error_txn_requires_abort(error))
		class = OUTBOX_ERROR_ABORTABLE;
	else if (class == OUTBOX_ERROR_FATAL && rd_kafka_error_is_retriable(error))
		class = OUTBOX_ERROR_RETRIABLE;
	outbox_failure_set(failure, class, code, tried, "%s", rd_kafka_error_string(error));
	add_client_error(failure);
	rd_kafka_error_destroy(error);
}
