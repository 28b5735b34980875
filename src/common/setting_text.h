/* SPDX-License-Identifier: PostgreSQL
 *
 * setting_text.h
 *	  What people write into settings by mistake: bytes that are no text, invisible
 *	  blanks, quotes, comments after a value.
 *
 * Compiled into server, sender and services.  No function here shows a value.
 */
#ifndef OUTBOX_SETTING_TEXT_H
#define OUTBOX_SETTING_TEXT_H

#include <stdbool.h>
#include <stddef.h>

/* Behind the byte order mark that editors put before UTF-8, if there is one. */
extern const char *outbox_setting_skip_bom(const char *text);

/* Cuts spaces, tabs and line ends off both sides, in place. */
extern char *outbox_setting_trim(char *text);

/* Could it be the name of a setting?  Anything else may be part of a value and is not shown. */
extern bool outbox_setting_is_name(const char *text);

/*
 * What is wrong with a text of one line, to follow its name: "is not UTF-8", ...; NULL: nothing.
 * secret: invisible blanks count at its ends only, for within it they may be meant.
 */
extern const char *outbox_setting_flaw(const char *text, bool secret);

/*
 * The same of a value that no quotes and no comment belong to: quotes around it, or "#" after a
 * blank; NULL: neither.
 */
extern const char *outbox_setting_decorated(const char *value);

#endif /* OUTBOX_SETTING_TEXT_H */
