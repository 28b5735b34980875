/* SPDX-License-Identifier: PostgreSQL
 *
 * error_class.c
 *	  Names of the error classes.
 *
 * Compiled into server, sender and services.
 */
#include "error_class.h"

const char *
outbox_error_class_name(OutboxErrorClass class)
{
	switch (class)
	{
		case OUTBOX_ERROR_RETRIABLE:
			return "retriable";
		case OUTBOX_ERROR_ABORTABLE:
			return "abortable";
		case OUTBOX_ERROR_FATAL:
			return "fatal";
		case OUTBOX_ERROR_FENCED:
			return "fenced";
		case OUTBOX_ERROR_CONFIG:
			return "config";
		case OUTBOX_ERROR_AUTH:
			return "auth";
	}
	return "unknown";
}
