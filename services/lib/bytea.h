/* SPDX-License-Identifier: PostgreSQL
 *
 * bytea.h
 *	  Bytes as PostgreSQL reads them.
 */
#ifndef OUTBOX_BYTEA_H
#define OUTBOX_BYTEA_H

#include <stddef.h>
#include <stdint.h>

/* Text of bytea, \x..., malloc'ed; NULL for NULL. */
extern char *outbox_bytea_text(const uint8_t *data, size_t len);

/* The same of a text's bytes, as outbox.wire_text takes them. */
extern char *outbox_bytea_of_text(const char *text);

#endif /* OUTBOX_BYTEA_H */
