/* SPDX-License-Identifier: PostgreSQL
 *
 * setting_text.c
 *	  What people write into settings by mistake.
 */
#include "setting_text.h"

#include <string.h>

#include "utf8.h"

#define BLANKS		 " \t\r\n\v\f"
#define NAME_MAX_LEN 64

const char *
outbox_setting_skip_bom(const char *text)
{
	return strncmp(text, "\xEF\xBB\xBF", 3) == 0 ? text + 3 : text;
}

char *
outbox_setting_trim(char *text)
{
	size_t len;

	text += strspn(text, BLANKS);
	len = strlen(text);
	while (len > 0 && strchr(BLANKS, text[len - 1]) != NULL)
		len--;
	text[len] = '\0';
	return text;
}

bool
outbox_setting_is_name(const char *text)
{
	size_t len = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789._");

	return len > 0 && len <= NAME_MAX_LEN && text[len] == '\0' &&
		strchr("0123456789.", text[0]) == NULL;
}

/* Does it look like a space or like nothing, without being one? */
static bool
is_invisible(int32_t character)
{
	return character == 0xA0 || character == 0xAD || character == 0x1680 ||
		(character >= 0x2000 && character <= 0x200F) ||
		(character >= 0x2028 && character <= 0x202F) ||
		(character >= 0x205F && character <= 0x2064) || character == 0x3000 || character == 0xFEFF;
}

const char *
outbox_setting_flaw(const char *text, bool secret)
{
	const char *next = text;
	size_t		left = strlen(text);
	bool		invisible = false;
	int32_t		character = 0;

	while (left > 0)
	{
		size_t size = outbox_utf8_char(next, left);

		if (size == 0)
			return "is not UTF-8";
		character = outbox_utf8_code(next, size);
		if ((character < 0x20 && character != '\t') || (character >= 0x7F && character < 0xA0))
			return "has a control character";
		invisible |= is_invisible(character) && (next == text || !secret);
		next += size;
		left -= size;
	}
	return invisible || is_invisible(character) ?
		"has an invisible character or a blank that is no space, as U+00A0" :
		NULL;
}

const char *
outbox_setting_decorated(const char *value)
{
	size_t len = strlen(value);

	if (len >= 2 && strchr("'\"`", value[0]) != NULL && value[len - 1] == value[0])
		return "has quotes around it, which would be part of the value: leave them out";
	for (const char *hash = strchr(value, '#'); hash != NULL; hash = strchr(hash + 1, '#'))
	{
		if (hash > value && strchr(BLANKS, hash[-1]) != NULL)
			return "has \" #\" in it, which would be part of the value: a comment has a line of "
				   "its own";
	}
	return NULL;
}
