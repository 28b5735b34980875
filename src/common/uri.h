/* SPDX-License-Identifier: PostgreSQL
 *
 * uri.h
 *	  ce_source, which is a URI reference (RFC 3986).
 *
 * Pure; compiled into every program.
 */
#ifndef OUTBOX_URI_H
#define OUTBOX_URI_H

#include <stdbool.h>
#include <stddef.h>

/* Is the text a URI reference, one that is not empty? */
extern bool outbox_uri_is_reference(const char *text);

/*
 * Writes the bytes as one segment of a path, what does not belong there as % and two hex digits,
 * and a zero byte; dst has room for 3 * len + 1.  Returns dst.
 */
extern char *outbox_uri_segment(char *dst, const char *bytes, size_t len);

#endif /* OUTBOX_URI_H */
