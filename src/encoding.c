/* SPDX-License-Identifier: PostgreSQL
 *
 * encoding.c
 *	  The border between the database's encoding and UTF-8, which Kafka and shared memory have.
 *
 * The server's own functions look the default conversion up through search_path, need a transaction
 * each time, and raise; so the conversions are found once, in pg_catalog, and asked not to raise.
 */
#include "postgres.h"

#include <ctype.h>

#include "access/xact.h"
#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace_d.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"

#include "encoding.h"
#include "src/common/utf8.h"

#define KEPT_ROOM (1024 * 1024) /* a result of that size may have room to spare */

/* fn_oid InvalidOid: there is no such conversion. */
static FmgrInfo to_utf8;
static FmgrInfo from_utf8;
static bool		prepared = false;

/* Do the database's texts pass as they are? */
static bool
is_same(void)
{
	return GetDatabaseEncoding() == PG_UTF8 || GetDatabaseEncoding() == PG_SQL_ASCII;
}

static void
find_conversion(FmgrInfo *found, int from, int to)
{
	Oid function = FindDefaultConversion(PG_CATALOG_NAMESPACE, from, to);

	if (OidIsValid(function))
		fmgr_info_cxt(function, found, TopMemoryContext);
}

void
outbox_encoding_prepare(void)
{
	if (prepared || is_same() || !IsTransactionState())
		return;
	find_conversion(&to_utf8, GetDatabaseEncoding(), PG_UTF8);
	find_conversion(&from_utf8, PG_UTF8, GetDatabaseEncoding());
	prepared = true;
}

/*
 * Returns how many bytes of src could be converted; dst, of MAX_CONVERSION_GROWTH * len + 1 bytes,
 * is ended by a zero byte.
 */
static int
convert(FmgrInfo *conversion, const char *src, int len, char *dst)
{
	bool out = conversion == &to_utf8;
	int	 other = GetDatabaseEncoding();

	dst[0] = '\0';
	outbox_encoding_prepare();
	if (!OidIsValid(conversion->fn_oid))
		return 0;
	return DatumGetInt32(FunctionCall6(conversion, Int32GetDatum(out ? other : PG_UTF8),
									   Int32GetDatum(out ? PG_UTF8 : other), CStringGetDatum(src),
									   CStringGetDatum(dst), Int32GetDatum(len),
									   BoolGetDatum(true)));
}

/* All of src, palloc'd; NULL: *good bytes of it could be converted. */
static char *
convert_whole(FmgrInfo *conversion, const char *src, int len, int *good)
{
	char *dst =
		MemoryContextAllocHuge(CurrentMemoryContext, (Size) len * MAX_CONVERSION_GROWTH + 1);

	*good = convert(conversion, src, len, dst);
	if (*good < len)
	{
		pfree(dst);
		return NULL;
	}
	return len > KEPT_ROOM ? repalloc_huge(dst, strlen(dst) + 1) : dst;
}

/* Every encoding that a database can have says the same with bytes below 0x80. */
static int
count_ascii(const char *src, int len)
{
	int count = 0;

	while (count < len && !IS_HIGHBIT_SET(src[count]))
		count++;
	return count;
}

/* As outbox_encoding_try_utf8; *good: how many bytes are sound, when it is NULL. */
static const char *
try_utf8(const char *src, int *len, int *good)
{
	char  *converted;
	size_t size;

	*good = GetDatabaseEncoding() == PG_UTF8 ? *len : count_ascii(src, *len);
	if (*good == *len)
		return src;
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
	{
		while (*good < *len && (size = outbox_utf8_char(src + *good, (size_t) (*len - *good))) > 0)
			*good += (int) size;
		return *good == *len ? src : NULL;
	}
	converted = convert_whole(&to_utf8, src, *len, good);
	if (converted == NULL)
		return NULL;
	size = strlen(converted);
	if (size >= MaxAllocSize)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("a text of %d bytes is too long to become UTF-8", *len)));
	*len = (int) size;
	return converted;
}

const char *
outbox_encoding_try_utf8(const char *src, int *len)
{
	int good;

	return try_utf8(src, len, &good);
}

/* The bytes of the character at src, up to 8, as 0xe4 0x20. */
static char *
describe_bytes(const char *src, int len)
{
	StringInfoData text;
	int			   size =
		GetDatabaseEncoding() == PG_SQL_ASCII ? pg_encoding_mblen(PG_UTF8, src) : pg_mblen(src);

	initStringInfo(&text);
	for (int i = 0; i < Min(Min(size, len), 8); i++)
		appendStringInfo(&text, "%s0x%02x", i > 0 ? " " : "", (unsigned char) src[i]);
	return text.data;
}

const char *
outbox_encoding_utf8(const char *what, const char *src, int *len)
{
	int			good;
	const char *made = try_utf8(src, len, &good);

	if (made != NULL)
		return made;
	if (GetDatabaseEncoding() == PG_SQL_ASCII)
		ereport(ERROR,
				(errcode(ERRCODE_CHARACTER_NOT_IN_REPERTOIRE),
				 errmsg("%s of an event is not valid UTF-8", what),
				 errdetail("The database has no encoding (SQL_ASCII), so its texts go to Kafka as "
						   "they are. The bytes %s are no character of UTF-8.",
						   describe_bytes(src + good, *len - good)),
				 errhint("Convert the text first, or use outbox.emit_bytes for bytes that are no "
						 "text.")));
	ereport(ERROR,
			(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
			 errmsg("%s of an event cannot become UTF-8", what),
			 errdetail("The bytes %s in encoding %s have no equivalent.",
					   describe_bytes(src + good, *len - good), GetDatabaseEncodingName()),
			 errhint("Leave the character out, or use outbox.emit_bytes for bytes that are no "
					 "text.")));
}

static void
append_byte(StringInfo out, char byte)
{
	appendStringInfo(out, "\\x%02x", (unsigned char) byte);
}

const char *
outbox_encoding_utf8_shown(const char *src, int *len)
{
	const char	  *end = src + *len;
	const char	  *made;
	StringInfoData out;

	/*
	 * settings, and errors that name a file, may be in another encoding even where texts are UTF-8
	 */
	if (is_same())
		made = outbox_utf8_valid(src, (size_t) *len) ? src : NULL;
	else
		made = outbox_encoding_try_utf8(src, len);
	if (made != NULL)
		return made;
	initStringInfo(&out);
	while (src < end)
	{
		int size = is_same() ?
			(int) outbox_utf8_char(src, (size_t) (end - src)) :
			pg_encoding_verifymbchar(GetDatabaseEncoding(), src, (int) (end - src));
		int made_len = size;

		made = size > 0 ? outbox_encoding_try_utf8(src, &made_len) : NULL;
		if (made != NULL)
			appendBinaryStringInfo(&out, made, made_len);
		else
		{
			size = 1;
			append_byte(&out, *src);
		}
		src += size;
	}
	*len = out.len;
	return out.data;
}

/* ----------------------------------------------------------- from UTF-8 */

/* A character that the database's encoding lacks, as JSON writes it. */
static void
append_code(StringInfo out, const char *src)
{
	pg_wchar code = utf8_to_unicode((const unsigned char *) src);

	if (code >= 0x10000)
		appendStringInfo(out, "\\u%04x\\u%04x", 0xD800 + ((code - 0x10000) >> 10),
						 0xDC00 + ((code - 0x10000) & 0x3FF));
	else
		appendStringInfo(out, "\\u%04x", code);
}

/* Is this \x and two hex digits? */
static bool
is_escape(const char *src, const char *end)
{
	return end - src >= 4 && src[0] == '\\' && src[1] == 'x' && isxdigit((unsigned char) src[2]) &&
		isxdigit((unsigned char) src[3]);
}

static void
append_character(StringInfo out, const char *src, int size, bool lossless)
{
	char made[MAX_CONVERSION_GROWTH * MAX_MULTIBYTE_CHAR_LEN + 1];

	if (is_same() || !IS_HIGHBIT_SET(*src))
		appendBinaryStringInfo(out, src, size);
	else if (convert(&from_utf8, src, size, made) == size)
		appendStringInfoString(out, made);
	else if (!lossless)
		append_code(out, src);
	else
	{
		for (int i = 0; i < size; i++)
			append_byte(out, src[i]);
	}
}

/* Character by character, whatever the bytes are. */
static char *
show_pieces(const char *src, int len, bool lossless)
{
	const char	  *end = src + len;
	StringInfoData out;

	initStringInfo(&out);
	while (src < end)
	{
		int size = (int) outbox_utf8_char(src, (size_t) (end - src));

		if (size == 0 || *src == '\0' || (lossless && is_escape(src, end)))
		{
			size = 1;
			append_byte(&out, *src);
		}
		else
			append_character(&out, src, size, lossless);
		src += size;
	}
	return out.data;
}

/* All of it is text, and no byte must be escaped. */
static bool
is_plain(const char *src, int len, bool lossless)
{
	if (memchr(src, '\0', (size_t) len) != NULL || !outbox_utf8_valid(src, (size_t) len))
		return false;
	for (int i = 0; lossless && i < len; i++)
	{
		if (is_escape(src + i, src + len))
			return false;
	}
	return true;
}

char *
outbox_encoding_try_text(const char *utf8, int len)
{
	int good;

	if (!is_plain(utf8, len, false))
		return NULL;
	if (is_same() || count_ascii(utf8, len) == len)
		return pnstrdup(utf8, (Size) len);
	return convert_whole(&from_utf8, utf8, len, &good);
}

static char *
show(const char *src, int len, bool lossless)
{
	char *made = is_plain(src, len, lossless) ? outbox_encoding_try_text(src, len) : NULL;

	return made != NULL ? made : show_pieces(src, len, lossless);
}

char *
outbox_encoding_shown(const char *bytes, int len)
{
	return show(bytes, len, false);
}

char *
outbox_encoding_escaped(const char *bytes, int len)
{
	return show(bytes, len, true);
}

static int
hex_value(char digit)
{
	return digit <= '9' ? digit - '0' : (digit | 0x20) - 'a' + 10;
}

const char *
outbox_encoding_unescape(const char *src, int *len)
{
	const char *end = src + *len;
	char	   *made;
	char	   *at;

	if (memchr(src, '\\', (size_t) *len) == NULL)
		return src;
	made = at = palloc((Size) *len + 1);
	while (src < end)
	{
		bool escape = is_escape(src, end);

		*at++ = escape ? (char) (hex_value(src[2]) << 4 | hex_value(src[3])) : *src;
		src += escape ? 4 : 1;
	}
	*at = '\0';
	*len = (int) (at - made);
	return made;
}

/* ------------------------------------------------------ the database's own */

char *
outbox_encoding_shown_here(const char *bytes, int len)
{
	int			encoding = GetDatabaseEncoding() == PG_SQL_ASCII ? PG_UTF8 : GetDatabaseEncoding();
	const char *end = bytes + len;
	StringInfoData out;

	initStringInfo(&out);
	while (bytes < end)
	{
		int size = pg_encoding_verifymbchar(encoding, bytes, (int) (end - bytes));

		if (size > 0)
			appendBinaryStringInfo(&out, bytes, size);
		else
			append_byte(&out, *bytes);
		bytes += Max(size, 1);
	}
	return out.data;
}

int
outbox_encoding_clip(const char *text, int len, int characters)
{
	int clipped = 0;

	if (GetDatabaseEncoding() != PG_SQL_ASCII)
		return pg_mbcharcliplen(text, len, characters);
	while (clipped < len && characters-- > 0)
		clipped += (int) Max(outbox_utf8_char(text + clipped, (size_t) (len - clipped)), 1);
	return clipped;
}
