/* SPDX-License-Identifier: PostgreSQL
 *
 * http_guard.h
 *	  Requests that another server may read as something else, and names that are not ours.
 *
 * Pure.
 */
#ifndef OUTBOX_HTTP_GUARD_H
#define OUTBOX_HTTP_GUARD_H

#include <stdbool.h>
#include <stddef.h>

#include "http_pairs.h"

/*
 * Judges the headers as they came, before anything of the body is read.  What is wrong (a string
 * constant), or NULL.  version: as "HTTP/1.1".
 */
extern const char *outbox_http_guard(const OutboxHttpPairs *headers, const char *version);

/* Is name one of a header: a token of RFC 9110? */
extern bool outbox_http_is_token(const char *name);

/*
 * Is the Host, with or without a port, an address, localhost, or one of names (one a line, "*":
 * any)?  A page that lets its own name lead to us (DNS rebinding) sends that name.  NULL: fits.
 */
extern bool outbox_http_host_fits(const char *host, const char *names);

/* Option check of http_hosts. */
extern bool outbox_http_check_hosts(const char *value, char *error, size_t size);

#endif /* OUTBOX_HTTP_GUARD_H */
