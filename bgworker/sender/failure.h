/* SPDX-License-Identifier: PostgreSQL
 *
 * failure.h
 *	  Why something could not be done.
 *
 * Functions that can fail return false and fill *failure; the caller logs it and answers
 * FAILED.  Main thread.
 */
#ifndef OUTBOX_FAILURE_H
#define OUTBOX_FAILURE_H

#include <librdkafka/rdkafka.h>

#include "src/common/error_class.h"

/* Why something could not be done. */
typedef struct OutboxFailure
{
	OutboxErrorClass class;
	int	 kafka_error; /* rd_kafka_resp_err_t, 0 if none */
	char tried[64];
	char text[640];
} OutboxFailure;

extern void outbox_failure_set(OutboxFailure *failure, OutboxErrorClass class, int kafka_error,
							   const char *tried, const char *format, ...)
	__attribute__((format(printf, 5, 6)));
extern void outbox_failure_from_code(OutboxFailure *failure, rd_kafka_resp_err_t code,
									 const char *tried, const char *text);
extern void outbox_failure_from_error(OutboxFailure *failure, rd_kafka_error_t *error,
									  const char *tried);
extern void outbox_failure_precede(OutboxFailure *failure, const char *format, ...)
	__attribute__((format(printf, 2, 3)));
extern void outbox_failure_append(OutboxFailure *failure, const char *format, ...)
	__attribute__((format(printf, 2, 3)));

#endif /* OUTBOX_FAILURE_H */
