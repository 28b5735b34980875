/* SPDX-License-Identifier: PostgreSQL
 *
 * encoding.h
 *	  The border between the database's encoding and UTF-8, which Kafka and shared memory have.
 *
 * Server processes.  A database in SQL_ASCII has no encoding: its texts are taken for UTF-8 and
 * pass as they are.  Conversions are pg_catalog's own, whatever search_path says.  Every text that
 * crosses comes through here.
 */
#ifndef OUTBOX_ENCODING_H
#define OUTBOX_ENCODING_H

#include "lib/stringinfo.h"

/*
 * Looks the conversions up; to be called in a transaction before the first use outside of one,
 * where what is not looked up yet counts as impossible.
 */
extern void outbox_encoding_prepare(void);

/*
 * The UTF-8 of a text; src itself when nothing must change, else palloc'd.  Length in *len.  NULL:
 * some of it is no text, or has no equivalent.
 */
extern const char *outbox_encoding_try_utf8(const char *src, int *len);

/* The same; ERROR 22021 or 22P05 that names `what` of an event instead of NULL. */
extern const char *outbox_encoding_utf8(const char *what, const char *src, int *len);

/* The same; never fails: what cannot become UTF-8 is shown as \x and two hex digits a byte. */
extern const char *outbox_encoding_utf8_shown(const char *src, int *len);

/*
 * UTF-8 as a text of the database, palloc'd, with a zero byte; NULL: it is none, or has a character
 * the database has not.
 */
extern char *outbox_encoding_try_text(const char *utf8, int len);

/*
 * Bytes from outside, UTF-8 if they are text, as a text of the database for people; palloc'd, with
 * a zero byte.  Never fails: characters that the database's encoding lacks become \u and four hex
 * digits (as in JSON, so two of them above U+FFFF), bytes that are none \x and two.
 */
extern char *outbox_encoding_shown(const char *bytes, int len);

/*
 * The same so that nothing is lost: whatever is no text of the database becomes \x and two hex
 * digits a byte, and so does a backslash that would be taken for the beginning of one.
 */
extern char *outbox_encoding_escaped(const char *bytes, int len);

/* Takes that back, of a text that is UTF-8 already: src itself when nothing must change. */
extern const char *outbox_encoding_unescape(const char *src, int *len);

/*
 * A text of this database, or one in another database's encoding that a shared catalog holds;
 * palloc'd.  What is no text here is shown as \x and two hex digits a byte.
 */
extern char *outbox_encoding_shown_here(const char *bytes, int len);

/* The first `characters` of a text of this database, in bytes. */
extern int outbox_encoding_clip(const char *text, int len, int characters);

#endif /* OUTBOX_ENCODING_H */
