/* SPDX-License-Identifier: PostgreSQL
 *
 * utf8.h
 *	  Which bytes are UTF-8, and which of its characters a CloudEvents attribute may hold.
 *
 * Pure; compiled into every program.
 */
#ifndef OUTBOX_UTF8_H
#define OUTBOX_UTF8_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Bytes of the character that text begins with (RFC 3629; a zero byte is one); 0: there is none. */
extern size_t outbox_utf8_char(const char *text, size_t len);

/* Code point of the character at text that outbox_utf8_char has found to have so many bytes. */
extern int32_t outbox_utf8_code(const char *text, size_t size);

extern bool outbox_utf8_valid(const char *text, size_t len);

/*
 * The first character of valid UTF-8 that CloudEvents' type String excludes: control characters
 * (U+0000 to U+001F, U+007F to U+009F) and noncharacters; -1: none.
 */
extern int32_t outbox_utf8_excluded(const char *text, size_t len);

#endif /* OUTBOX_UTF8_H */
