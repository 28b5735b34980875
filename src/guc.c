/* SPDX-License-Identifier: PostgreSQL
 *
 * guc.c
 *	  Settings "outbox.*": one table, sorted by name.
 *
 * Runs in every process that loads the library.  Check hooks report through
 * GUC_check_errdetail and never throw.
 */
#include "postgres.h"

#include <limits.h>

#include "utils/guc_tables.h"

#include "guc.h"
#include "src/common/kafka_properties.h"
#include "src/common/kafka_property_text.h"
#include "src/common/uri.h"

#define CORRELATION_ID_MAX		   256
#define TRACEPARENT_LENGTH		   55 /* 00-<32 hex>-<16 hex>-<2 hex> */
#define TRACESTATE_MAX			   512
#define SOURCE_MAX				   512
#define IDEMPOTENCY_RETENTION_MOST (84 * 24 * 3600)	   /* see idempotency.c */
#define MAX_EVENT_BYTES_MOST	   (128 * 1024 * 1024) /* half of OUTBOX_WIRE_MAX_FRAME */

char *outbox_guc_correlation_id;
char *outbox_guc_traceparent;
char *outbox_guc_tracestate;
bool  outbox_guc_allow_dead_letter_edit;
bool  outbox_guc_relay;
int	  outbox_guc_max_backlog;
int	  outbox_guc_max_backlog_action;
int	  outbox_guc_max_event_bytes;
bool  outbox_guc_require_declared_topics;
int	  outbox_guc_dead_letter_policy;
int	  outbox_guc_delivery;
int	  outbox_guc_drop_unsent;
int	  outbox_guc_envelope;
int	  outbox_guc_on_divergence;
char *outbox_guc_kafka_properties;
char *outbox_guc_kafka_properties_file;
char *outbox_guc_source;
int	  outbox_guc_batch_max_events;
int	  outbox_guc_batch_max_bytes;
int	  outbox_guc_idempotency_retention;
int	  outbox_guc_retention;
int	  outbox_guc_segment_size;
int	  outbox_guc_sender_idle_timeout;
int	  outbox_guc_window_memory;
int	  outbox_guc_batch_log_rows;

static const struct config_enum_entry dead_letter_options[] = {
	{"dead_letter", OUTBOX_DEAD_LETTER_DEAD_LETTER, false},
	{"hold_key", OUTBOX_DEAD_LETTER_HOLD_KEY, false},
	{"hold_topic", OUTBOX_DEAD_LETTER_HOLD_TOPIC, false},
	{"stop", OUTBOX_DEAD_LETTER_STOP, false},
	{NULL, 0, false},
};

static const struct config_enum_entry delivery_options[] = {
	{"exactly_once", OUTBOX_DELIVERY_EXACTLY_ONCE, false},
	{"at_least_once", OUTBOX_DELIVERY_AT_LEAST_ONCE, false},
	{NULL, 0, false},
};

static const struct config_enum_entry drop_unsent_options[] = {
	{"warn", OUTBOX_DROP_WARN, false},
	{"refuse", OUTBOX_DROP_REFUSE, false},
	{NULL, 0, false},
};

static const struct config_enum_entry envelope_options[] = {
	{"cloudevents", OUTBOX_ENVELOPE_CLOUDEVENTS, false},
	{"none", OUTBOX_ENVELOPE_NONE, false},
	{NULL, 0, false},
};

static const struct config_enum_entry divergence_options[] = {
	{"hold", OUTBOX_DIVERGENCE_HOLD, false},
	{"resend", OUTBOX_DIVERGENCE_RESEND, false},
	{"skip", OUTBOX_DIVERGENCE_SKIP, false},
	{NULL, 0, false},
};

static const struct config_enum_entry backlog_action_options[] = {
	{"error", OUTBOX_BACKLOG_ERROR, false},
	{"warn", OUTBOX_BACKLOG_WARN, false},
	{NULL, 0, false},
};

/* Is text at most max bytes without control characters of ASCII, whatever the locale? */
static bool
check_plain_text(const char *text, size_t max)
{
	if (strlen(text) > max)
	{
		GUC_check_errdetail("The value is longer than %zu bytes.", max);
		return false;
	}
	for (const char *c = text; *c != '\0'; c++)
	{
		if ((unsigned char) *c < ' ' || *c == 0x7F)
		{
			GUC_check_errdetail("The value contains a control character.");
			return false;
		}
	}
	return true;
}

static bool
check_correlation_id(char **newval, void **extra, GucSource source)
{
	return check_plain_text(*newval, CORRELATION_ID_MAX);
}

static bool
check_tracestate(char **newval, void **extra, GucSource source)
{
	return check_plain_text(*newval, TRACESTATE_MAX);
}

static bool
check_source(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0')
		return true;
	if (!check_plain_text(*newval, SOURCE_MAX))
		return false;
	if (outbox_uri_is_reference(*newval))
		return true;
	GUC_check_errdetail("The value is not a URI reference (RFC 3986), as CloudEvents requires it "
						"of a source.");
	GUC_check_errhint("Write what a URI does not take as %% and two hex digits, a space as %%20.");
	return false;
}

/* Lower-case hex digits with dashes after the 2nd, 35th and 52nd character. */
static bool
is_traceparent(const char *text)
{
	if (strlen(text) < TRACEPARENT_LENGTH || strncmp(text, "ff", 2) == 0)
		return false;
	for (int i = 0; i < TRACEPARENT_LENGTH; i++)
	{
		bool dash = (i == 2 || i == 35 || i == 52);

		if (dash ? text[i] != '-' : strchr("0123456789abcdef", text[i]) == NULL)
			return false;
	}
	/* Version 00 ends here; a later version may only go on after a dash. */
	if (text[TRACEPARENT_LENGTH] == '\0')
		return true;
	return strncmp(text, "00", 2) != 0 && text[TRACEPARENT_LENGTH] == '-';
}

static bool
check_traceparent(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0')
		return true;
	if (!is_traceparent(*newval))
	{
		GUC_check_errdetail("The value is not a W3C traceparent (version-traceid-parentid-flags in "
							"lower-case hex).");
		return false;
	}
	return check_plain_text(*newval, TRACESTATE_MAX);
}

/* Stops at a secret; arg: bool, set then. */
static bool
refuse_secret(const char *name, const char *value, void *arg, char *reason, size_t reason_size)
{
	if (outbox_kafka_property_public(name))
		return true;
	*(bool *) arg = true;
	strlcpy(reason, "is a secret", reason_size);
	return false;
}

/*
 * The server logs the value of a setting that changes or is refused, so no
 * secret may be in it, and the message here leaves the value out.
 */
static bool
check_kafka_properties(char **newval, void **extra, GucSource source)
{
	char *text = pstrdup(*newval);
	char  error[256];
	bool  secret = false;
	bool  good;

	outbox_kafka_properties_unescape(text);
	good = outbox_kafka_properties_parse(text, OUTBOX_KAFKA_PRODUCER, refuse_secret, &secret, error,
										 sizeof(error));
	pfree(text);
	if (good)
		return true;
	GUC_check_errmsg("invalid value for parameter \"%s\"", "outbox.kafka_properties");
	GUC_check_errdetail("%c%s.", toupper((unsigned char) error[0]), error + 1);
	if (secret)
		GUC_check_errhint("Put it into a file, named by \"outbox.kafka_properties_file\".");
	else
		GUC_check_errhint("One property a line, name=value; a line ends with \\n. A value that "
						  "holds \\n belongs in the file named by "
						  "\"outbox.kafka_properties_file\".");
	return false;
}

static bool
check_kafka_properties_file(char **newval, void **extra, GucSource source)
{
	if (**newval == '\0' || is_absolute_path(*newval))
		return true;
	GUC_check_errdetail("The value is not an absolute path.");
	return false;
}

/* One setting.  The fields that belong to another kind stay zero. */
typedef struct Setting
{
	const char					   *name;
	enum config_type				kind;
	void						   *variable;
	GucContext						context;
	int								flags;
	int								boot;	  /* bool, int, enum */
	int								min, max; /* int */
	const struct config_enum_entry *options;  /* enum */
	GucStringCheckHook				check;	  /* string; their boot value is "" */
	const char					   *text;
} Setting;

/* A row: name, kind, variable and context, then the values, then the text. */
/* clang-format off */
static const Setting settings[] = {
	{"outbox.allow_dead_letter_edit", PGC_BOOL, &outbox_guc_allow_dead_letter_edit, PGC_SUSET,
		0, false,
		.text = "Allows outbox.dead_letter_edit()."},
	{"outbox.batch_log_rows", PGC_INT, &outbox_guc_batch_log_rows, PGC_SIGHUP,
		0, 100000, 10, INT_MAX,
		.text = "Rows after which outbox.batch goes on in its other leaf."},
	{"outbox.batch_max_bytes", PGC_INT, &outbox_guc_batch_max_bytes, PGC_SIGHUP,
		GUC_UNIT_KB, 32 * 1024, 1, 1024 * 1024,
		.text = "Keys and payloads of one Kafka transaction, at most."},
	{"outbox.batch_max_events", PGC_INT, &outbox_guc_batch_max_events, PGC_SIGHUP,
		0, 50000, 1, 1000000,
		.text = "Events of one Kafka transaction, at most."},
	{"outbox.correlation_id", PGC_STRING, &outbox_guc_correlation_id, PGC_USERSET,
		.check = check_correlation_id,
		.text = "Correlation id that emit() gives to events of this session."},
	{"outbox.dead_letter_policy", PGC_ENUM, &outbox_guc_dead_letter_policy, PGC_SIGHUP,
		0, OUTBOX_DEAD_LETTER_DEAD_LETTER, .options = dead_letter_options,
		.text = "What the relay does with an event that Kafka refuses."},
	{"outbox.delivery", PGC_ENUM, &outbox_guc_delivery, PGC_SIGHUP,
		0, OUTBOX_DELIVERY_EXACTLY_ONCE, .options = delivery_options,
		.text = "Guarantee of the relay towards Kafka."},
	{"outbox.drop_unsent", PGC_ENUM, &outbox_guc_drop_unsent, PGC_USERSET,
		0, OUTBOX_DROP_WARN, .options = drop_unsent_options,
		.text = "What becomes of a command that drops events that were not sent."},
	{"outbox.envelope", PGC_ENUM, &outbox_guc_envelope, PGC_SIGHUP,
		0, OUTBOX_ENVELOPE_CLOUDEVENTS, .options = envelope_options,
		.text = "Headers the relay adds to each record."},
	{"outbox.idempotency_retention", PGC_INT, &outbox_guc_idempotency_retention, PGC_SIGHUP,
		GUC_UNIT_S, 35 * 24 * 3600, 1, IDEMPOTENCY_RETENTION_MOST,
		.text = "Time a consumer's claim of an event is remembered."},
	{"outbox.kafka_properties", PGC_STRING, &outbox_guc_kafka_properties, PGC_SIGHUP,
		GUC_SUPERUSER_ONLY, .check = check_kafka_properties,
		.text = "librdkafka properties, one name=value a line; a line ends with \\n."},
	{"outbox.kafka_properties_file", PGC_STRING, &outbox_guc_kafka_properties_file, PGC_SIGHUP,
		GUC_SUPERUSER_ONLY, .check = check_kafka_properties_file,
		.text = "File with librdkafka properties, for secrets."},
	{"outbox.max_backlog", PGC_INT, &outbox_guc_max_backlog, PGC_SUSET,
		GUC_UNIT_KB, 0, 0, INT_MAX,
		.text = "Bytes of events not delivered yet, at most; 0: no limit."},
	{"outbox.max_backlog_action", PGC_ENUM, &outbox_guc_max_backlog_action, PGC_SUSET,
		0, OUTBOX_BACKLOG_ERROR, .options = backlog_action_options,
		.text = "What emit() does past outbox.max_backlog."},
	{"outbox.max_event_bytes", PGC_INT, &outbox_guc_max_event_bytes, PGC_SUSET,
		GUC_UNIT_BYTE, 1000000, 1, MAX_EVENT_BYTES_MOST,
		.text = "Key, payload and headers of one event, at most."},
	{"outbox.on_divergence", PGC_ENUM, &outbox_guc_on_divergence, PGC_SIGHUP,
		0, OUTBOX_DIVERGENCE_HOLD, .options = divergence_options,
		.text = "What the relay does when database and Kafka disagree about history."},
	{"outbox.relay", PGC_BOOL, &outbox_guc_relay, PGC_SUSET,
		0, false,
		.text = "Switch of a database's relay, set by outbox.start_relay() and stop_relay()."},
	{"outbox.require_declared_topics", PGC_BOOL, &outbox_guc_require_declared_topics, PGC_SUSET,
		0, true,
		.text = "Refuse events for topics that were not declared."},
	{"outbox.retention", PGC_INT, &outbox_guc_retention, PGC_SIGHUP,
		GUC_UNIT_S, 7 * 24 * 3600, 1, INT_MAX,
		.text = "Time a relayed event is kept."},
	{"outbox.segment_size", PGC_INT, &outbox_guc_segment_size, PGC_SIGHUP,
		GUC_UNIT_MB, 1024, 1, 1024 * 1024,
		.text = "Size at which the event ring moves on to its next leaf."},
	{"outbox.sender_idle_timeout", PGC_INT, &outbox_guc_sender_idle_timeout, PGC_SIGHUP,
		GUC_UNIT_S, 600, 0, 24 * 3600,
		.text = "Time after which a sender without work ends; 0: never."},
	{"outbox.source", PGC_STRING, &outbox_guc_source, PGC_SIGHUP,
		.check = check_source,
		.text = "ce_source of the records; empty: /outbox/<database>."},
	{"outbox.traceparent", PGC_STRING, &outbox_guc_traceparent, PGC_USERSET,
		.check = check_traceparent,
		.text = "W3C traceparent that emit() gives to events of this session."},
	{"outbox.tracestate", PGC_STRING, &outbox_guc_tracestate, PGC_USERSET,
		.check = check_tracestate,
		.text = "W3C tracestate that emit() gives to events of this session."},
	{"outbox.window_memory", PGC_INT, &outbox_guc_window_memory, PGC_SIGHUP,
		GUC_UNIT_KB, 16 * 1024, 64, 1024 * 1024,
		.text = "Memory of the relay for the order of a backlog; "
			"what is larger goes to a temporary file."},
};
/* clang-format on */

static void
define_setting(const Setting *s)
{
	switch (s->kind)
	{
		case PGC_BOOL:
			DefineCustomBoolVariable(s->name, s->text, NULL, s->variable, s->boot != 0, s->context,
									 s->flags, NULL, NULL, NULL);
			break;
		case PGC_INT:
			DefineCustomIntVariable(s->name, s->text, NULL, s->variable, s->boot, s->min, s->max,
									s->context, s->flags, NULL, NULL, NULL);
			break;
		case PGC_ENUM:
			DefineCustomEnumVariable(s->name, s->text, NULL, s->variable, s->boot, s->options,
									 s->context, s->flags, NULL, NULL, NULL);
			break;
		case PGC_STRING:
			DefineCustomStringVariable(s->name, s->text, NULL, s->variable, "", s->context,
									   s->flags, s->check, NULL, NULL);
			break;
		case PGC_REAL:
			elog(ERROR, "setting %s has a kind that is not used", s->name);
	}
}

void
outbox_guc_define(void)
{
	for (size_t i = 0; i < lengthof(settings); i++)
		define_setting(&settings[i]);
	MarkGUCPrefixReserved("outbox");
}

bool
outbox_guc_keys_wait(void)
{
	return outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_KEY ||
		outbox_guc_dead_letter_policy == OUTBOX_DEAD_LETTER_HOLD_TOPIC;
}

static const char *
find_option_name(const struct config_enum_entry *options, int value)
{
	for (; options->name != NULL; options++)
	{
		if (options->val == value)
			return options->name;
	}
	return "unknown";
}

const char *
outbox_guc_delivery_name(int delivery)
{
	return find_option_name(delivery_options, delivery);
}

const char *
outbox_guc_envelope_name(int envelope)
{
	return find_option_name(envelope_options, envelope);
}
