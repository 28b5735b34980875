/* SPDX-License-Identifier: PostgreSQL
 *
 * event_headers.c
 *	  An event's own headers, as given by the caller, to Kafka's encoding.
 *
 * Runs in application backends.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "executor/executor.h"
#include "utils/builtins.h"

#include "encoding.h"
#include "event_headers.h"
#include "guc.h"
#include "src/common/kafka_headers.h"
#include "src/common/utf8.h"

typedef struct HeaderList
{
	OutboxHeader *items;
	int			  count;
	int			  settings; /* the first ones, from settings */
	bool		  foreign;	/* names of the envelope are allowed */
} HeaderList;

/* Headers a session can set; order in the record. */
typedef struct SettingHeader
{
	const char *name;
	char	  **value;
} SettingHeader;

static const SettingHeader setting_headers[] = {
	{"traceparent", &outbox_guc_traceparent},
	{"tracestate", &outbox_guc_tracestate},
	{"correlationid", &outbox_guc_correlation_id},
};

/* Written by the envelope, or by a replay. */
static const char *const reserved_names[] = {
	"ce_specversion",
	"ce_id",
	"ce_source",
	"ce_type",
	"ce_time",
	"content-type",
	OUTBOX_REPLAY_ID_HEADER,
	OUTBOX_REPLAY_GROUP_HEADER,
	OUTBOX_REPLAY_MODE_HEADER,
};

/* What begins with ce_ is an attribute of the CloudEvent: a String. */
static void
check_attribute(const OutboxHeader *header)
{
	const char *value = (const char *) header->value;

	if (!outbox_header_begins(header, "ce_"))
		return;
	if (outbox_utf8_valid(header->name, header->name_len) &&
		outbox_utf8_excluded(header->name, header->name_len) < 0 &&
		(value == NULL ||
		 (outbox_utf8_valid(value, header->value_len) &&
		  outbox_utf8_excluded(value, header->value_len) < 0)))
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("event header \"%s\" must be UTF-8 text without control characters",
					outbox_encoding_escaped(header->name, (int) header->name_len)),
			 errdetail("Headers that begin with ce_ are attributes of the CloudEvent.")));
}

/* The name is UTF-8. */
static void
add_header(HeaderList *list, const char *name, int name_len, const char *value, int value_len)
{
	OutboxHeader *header = &list->items[list->count];

	header->name = name;
	header->name_len = name_len;
	header->value = (const uint8_t *) value;
	header->value_len = value_len;

	if (name_len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event header must have a name")));
	for (size_t i = 0; i < lengthof(reserved_names) && !list->foreign; i++)
	{
		if (outbox_header_is(header, reserved_names[i]))
			ereport(ERROR,
					(errcode(ERRCODE_RESERVED_NAME),
					 errmsg("event header \"%s\" is reserved", reserved_names[i]),
					 errdetail("The relay writes this header itself."),
					 errhint("Leave it out; use type and content_type of the event.")));
	}
	if (!list->foreign)
		check_attribute(header);
	list->count++;
}

/* Room for `given` headers and those from settings, and the latter's values. */
static void
start_list(HeaderList *list, int given)
{
	list->items = palloc(sizeof(OutboxHeader) * (given + lengthof(setting_headers)));
	list->count = 0;
	list->foreign = false;
	for (size_t i = 0; i < lengthof(setting_headers); i++)
	{
		const char *value = *setting_headers[i].value;
		int			len;

		if (value == NULL || value[0] == '\0')
			continue;
		/*
		 * of a configuration file or a role, a value may be in another encoding; it costs no event
		 */
		len = (int) strlen(value);
		value = outbox_encoding_utf8_shown(value, &len);
		add_header(list, setting_headers[i].name, (int) strlen(setting_headers[i].name), value,
				   len);
	}
	list->settings = list->count;
}

/* A header the caller gives wins over the setting. */
static void
drop_overridden_settings(HeaderList *list)
{
	int kept = 0;

	for (int i = 0; i < list->count; i++)
	{
		bool overridden = false;

		for (int j = list->settings; i < list->settings && j < list->count; j++)
			/* a setting's: terminated */
			overridden |= outbox_header_is(&list->items[j], list->items[i].name);
		if (!overridden)
			list->items[kept++] = list->items[i];
	}
	list->count = kept;
}

bytea *
outbox_event_headers_write(const OutboxHeader *headers, int count)
{
	size_t	 size = outbox_varint_size(count);
	bytea	*encoded;
	uint8_t *pos;

	if (count == 0)
		return NULL;
	for (int i = 0; i < count; i++)
		size += outbox_header_size(&headers[i]);
	encoded = palloc(VARHDRSZ + size);
	SET_VARSIZE(encoded, VARHDRSZ + size);
	pos = outbox_varint_put((uint8_t *) VARDATA(encoded), count);
	for (int i = 0; i < count; i++)
		pos = outbox_header_put(pos, &headers[i]);
	return encoded;
}

static bytea *
encode_list(HeaderList *list)
{
	drop_overridden_settings(list);
	return outbox_event_headers_write(list->items, list->count);
}

static bool
is_without_headers(const void *given)
{
	if (given != NULL)
		return false;
	for (size_t i = 0; i < lengthof(setting_headers); i++)
	{
		const char *value = *setting_headers[i].value;

		if (value != NULL && value[0] != '\0')
			return false;
	}
	return true;
}

static void
refuse_headers(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("event headers must be an object of strings"), errdetail_internal("%s", detail),
			 errhint("Example: {\"tenant\": \"7\"}. For binary or repeated headers use "
					 "outbox.emit_bytes.")));
}

/* The caller's headers; `given` is an object. */
static void
add_object(HeaderList *list, Jsonb *given)
{
	JsonbIterator	  *it = JsonbIteratorInit(&given->root);
	JsonbIteratorToken token;
	JsonbValue		   name = {.type = jbvNull};
	JsonbValue		   value;

	while ((token = JsonbIteratorNext(&it, &value, true)) != WJB_DONE)
	{
		const char *name_text;
		const char *text;
		int			name_len;
		int			len;

		if (token == WJB_KEY)
			name = value;
		if (token != WJB_VALUE)
			continue;
		if (value.type != jbvString)
			refuse_headers(psprintf("The value of header \"%s\" is not a string.",
									pnstrdup(name.val.string.val, name.val.string.len)));
		name_len = name.val.string.len;
		name_text = outbox_encoding_utf8("header name", name.val.string.val, &name_len);
		len = value.val.string.len;
		text = outbox_encoding_utf8("header value", value.val.string.val, &len);
		add_header(list, name_text, name_len, text, len);
	}
}

bytea *
outbox_event_headers_from_jsonb(Jsonb *given)
{
	HeaderList list;

	if (is_without_headers(given))
		return NULL;
	if (given != NULL && !JB_ROOT_IS_OBJECT(given))
		refuse_headers("They are not an object.");

	start_list(&list, given ? JB_ROOT_COUNT(given) : 0);
	if (given != NULL)
		add_object(&list, given);
	return encode_list(&list);
}

static void
refuse_element(int number, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
			 errmsg("%s of event header %d must not be null", what, number)));
}

static void
add_element(HeaderList *list, HeapTupleHeader row)
{
	bool		isnull;
	Datum		name = GetAttributeByNum(row, 1, &isnull);
	text	   *given;
	const char *name_text;
	int			name_len;
	bytea	   *value = NULL;
	Datum		value_datum;

	if (isnull)
		refuse_element(list->count - list->settings + 1, "name");
	given = DatumGetTextPP(name);
	name_len = VARSIZE_ANY_EXHDR(given);
	name_text = outbox_encoding_utf8("header name", VARDATA_ANY(given), &name_len);
	name_text = outbox_encoding_unescape(name_text, &name_len);
	value_datum = GetAttributeByNum(row, 2, &isnull);
	if (!isnull)
		value = DatumGetByteaPP(value_datum);
	add_header(list, name_text, name_len, value ? VARDATA_ANY(value) : NULL,
			   value ? VARSIZE_ANY_EXHDR(value) : 0);
}

static void
add_elements(HeaderList *list, const Datum *elements, const bool *nulls, int count)
{
	for (int i = 0; i < count; i++)
	{
		if (nulls[i])
			refuse_element(i + 1, "row");
		add_element(list, DatumGetHeapTupleHeader(elements[i]));
	}
}

static void
read_array(ArrayType *given, Datum **elements, bool **nulls, int *count)
{
	deconstruct_array(given, ARR_ELEMTYPE(given), -1, false, TYPALIGN_DOUBLE, elements, nulls,
					  count);
}

bytea *
outbox_event_headers_from_array(ArrayType *given)
{
	HeaderList list;
	Datum	  *elements = NULL;
	bool	  *nulls = NULL;
	int		   count = 0;

	if (is_without_headers(given))
		return NULL;
	if (given != NULL)
		read_array(given, &elements, &nulls, &count);

	start_list(&list, count);
	add_elements(&list, elements, nulls, count);
	return encode_list(&list);
}

bytea *
outbox_event_headers_encode(ArrayType *given, bool own)
{
	HeaderList list = {.foreign = !own};
	Datum	  *elements;
	bool	  *nulls;
	int		   count;

	read_array(given, &elements, &nulls, &count);
	list.items = palloc(sizeof(OutboxHeader) * Max(count, 1));
	add_elements(&list, elements, nulls, count);
	return encode_list(&list);
}
