/* SPDX-License-Identifier: PostgreSQL
 *
 * test_service.c
 *	  The pure parts of the services' runtime: settings, metrics text, who a
 *	  record is, array literals, the classes of failures, decoding.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "unit.h"
#include "services/kafka/record.h"
#include "services/lib/array_text.h"
#include "services/lib/backoff.h"
#include "services/lib/config.h"
#include "services/lib/db_notice.h"
#include "services/lib/failure.h"
#include "services/lib/metrics.h"
#include "services/lib/text.h"
#include "services/lib/trace_context.h"
#include "services/runtime/call.h"
#include "services/runtime/claim.h"
#include "services/runtime/client_watch.h"
#include "services/runtime/record_log.h"
#include "services/runtime/trace_json.h"
#include "services/runtime/trouble_plan.h"
#include "src/common/kafka_headers.h"

static bool
check_even(const char *value, char *error, size_t size)
{
	if (strlen(value) % 2 == 0)
		return true;
	snprintf(error, size, "odd length");
	return false;
}

static bool
check_list(const char *value, char *error, size_t size)
{
	const char *bad = strstr(value, "bad");
	int			line = 1;

	for (const char *c = value; bad != NULL && c < bad; c++)
		line += *c == '\n';
	if (bad != NULL)
		snprintf(error, size, "line %d: is bad", line);
	return bad == NULL;
}

static int		   number;
static double	   factor;
static int		   color;
static int		   side;
static const char *word;
static const char *secret;
static const char *list;

static const char *const colors[] = {"red", "green", "blue", NULL};
static const char *const sides[] = {"left", "right", NULL};

static const OutboxOption options[] = {
	{.name = "number",
	 .kind = OUTBOX_OPTION_INTEGER,
	 .variable = &number,
	 .initial = "7",
	 .min = 1,
	 .max = 10},
	{.name = "factor",
	 .kind = OUTBOX_OPTION_NUMBER,
	 .variable = &factor,
	 .initial = "1",
	 .min = 1,
	 .max = 2},
	{.name = "color",
	 .kind = OUTBOX_OPTION_CHOICE,
	 .variable = &color,
	 .initial = "red",
	 .choices = colors},
	{.name = "side",
	 .kind = OUTBOX_OPTION_CHOICE,
	 .variable = &side,
	 .initial = "right",
	 .choices = sides},
	{.name = "word",
	 .kind = OUTBOX_OPTION_TEXT,
	 .variable = &word,
	 .initial = "",
	 .check = check_even},
	{.name = "secret", .kind = OUTBOX_OPTION_QUOTED, .variable = &secret},
	{.name = "list",
	 .kind = OUTBOX_OPTION_LINES,
	 .variable = &list,
	 .initial = "",
	 .check = check_list},
	{.name = NULL},
};

/* Reads text as a file; what went wrong, or "", stays in error. */
static bool
read_text(OutboxConfig *config, const char *text, char *error, size_t size)
{
	char path[] = "/tmp/outbox-unit-XXXXXX";
	int	 file = mkstemp(path);
	bool good;

	memset(config, 0, sizeof(*config));
	error[0] = '\0';
	outbox_config_add(config, options);
	good = file >= 0 && write(file, text, strlen(text)) == (ssize_t) strlen(text) &&
		outbox_config_read_file(config, path, error, size) &&
		outbox_config_finish(config, error, size);
	close(file);
	unlink(path);
	return good;
}

/* Refused with file, line and setting, and nothing of the value. */
static void
test_refused_settings(void)
{
	static const struct
	{
		const char *text;
		const char *reason;
	} refused[] = {
		{"secret=x\nnumber = 11\n", "line 2: number: 11 is outside 1 .. 10"},
		{"number = 3x\n", "line 1: number: not a whole number"},
		{"number =\n", "line 1: number: not a whole number"},
		{"number = 99999999999999999999\n", "not a whole number"},
		{"factor = 2.01\n", "line 1: factor: not a number from 1 to 2"},
		{"factor = nan\n", "line 1: factor: not a number from 1 to 2"},
		{"factor = 1,5\n", "line 1: factor: not a number from 1 to 2"},
		{"color = LEAKED\n", "line 1: color: none of red, green, blue"},
		{"side =\n", "line 1: side: neither left nor right"},
		{"word = abc\n", "line 1: word: odd length"},
		{"# note\n\nnumbr = 1\n", "line 3: unknown setting \"numbr\""},
		{"number\n", "line 1 is not of the form name = value"},
		{"word = ab\nword = cd\n", "line 2: setting \"word\" is given twice"},
		{"number = 1\n", "setting \"secret\" is missing"},
		{"secret =\n", "line 1: secret: is empty"},
		{"secret = x\nLEAKED = tail\n", "line 2 has no setting's name"},
		{"secret: LEAKED\n", "line 1 has \":\" after a setting's name"},
		{"word = LEAKED # note\n", "line 1: word: has \" #\" in it"},
		{"number = 3 # three\n", "line 1: number: has \" #\" in it"},
		{"\nword = 'LEAKED'\n", "line 2: word: has quotes around it"},
		{"word = LEAKED\xC2\xA0y\n", "line 1: word: has an invisible character"},
		{"secret = LEAKED\xA0\n", "line 1 is not UTF-8"},
		{"secret = LEAKED\x01\n", "line 1 has a control character"},
		{"\xC2\xA0word = LEAKED\n", "line 1 has an invisible character"},
		{"secret = x\n  LEAKED = tail\n",
		 "line 2 begins with a blank, but \"secret\" before it is no list"},
		{" secret = LEAKED\n", "line 1 begins with a blank"},
		{"\xFF\xFEs\n", "line 1 is UTF-16"},
		{"list = a\n\n  # note\n  b\n  bad\nsecret = x\n", "line 5: list: is bad"},
		{"list =\n  bad", "line 2: list: is bad"},
		{"list = a\nlist = b\n",
		 "line 2: setting \"list\" is given twice: a list goes on in lines that begin with a "
		 "blank"},
		{"list = a\n  LEAKED\xFF\n", "line 2 is not UTF-8"},
	};
	OutboxConfig config;
	char		 error[512];

	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++)
	{
		CHECK(!read_text(&config, refused[i].text, error, sizeof(error)) &&
				  strstr(error, refused[i].reason) != NULL && strstr(error, "LEAKED") == NULL &&
				  strstr(error, "tail") == NULL,
			  refused[i].reason);
		if (strstr(error, refused[i].reason) == NULL)
			printf("# %s\n", error);
		outbox_config_free(&config);
	}
}

static void
test_settings(void)
{
	/* what Kubernetes makes of Services outbox, outbox-order and outbox-portal */
	static const char *const links[][2] = {
		{"OUTBOX_SERVICE_HOST", "10.0.0.1"},
		{"OUTBOX_PORT", "tcp://10.0.0.1:8180"},
		{"OUTBOX_ORDER_SERVICE_PORT", "8180"},
		{"OUTBOX_ORDER_SERVICE_PORT_HTTP", "8180"},
		{"OUTBOX_ORDER_PORT_8180_TCP", "tcp://10.0.0.1:8180"},
		{"OUTBOX_ORDER_PORT_8180_TCP_PROTO", "tcp"},
		{"OUTBOX_PORTAL_PORT_8180_TCP_PORT", "8180"},
		{"OUTBOX_ORDER_PORT_8180_TCP_ADDR", "10.0.0.1"},
	};
	OutboxConfig config;
	char		 error[1024];

	CHECK(read_text(&config,
					"\xEF\xBB\xBFlist = a;b\n\t'c' #d\r\n\n# note\n  e = f\n # note\n\nsecret =  a "
					"= b # c \t\r\nnumber=10",
					error, sizeof(error)),
		  "blanks, notes and a last line without end are taken");
	CHECK(strcmp(secret, "a = b # c") == 0, "a value is what follows the first = sign, trimmed");
	CHECK(number == 10, "a bound is inside");
	CHECK(strcmp(list, "a;b\n'c' #d\n\n\ne = f\n\n") == 0,
		  "a list goes on in lines that begin with a blank");
	CHECK(strcmp(word, "") == 0 && factor == 1 && color == 0 && side == 1, "defaults");
	setenv("OUTBOX_NUMBER", "3", 1);
	CHECK(outbox_config_read_environment(&config, error, sizeof(error)) && number == 3,
		  "the environment wins");
	setenv("OUTBOX_NUMBER", "0", 1);
	CHECK(!outbox_config_read_environment(&config, error, sizeof(error)) &&
			  strstr(error, "OUTBOX_NUMBER") != NULL,
		  "a wrong value in the environment is named");
	unsetenv("OUTBOX_NUMBER");
	for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++)
	{
		setenv(links[i][0], links[i][1], 1);
		CHECK(outbox_config_read_environment(&config, error, sizeof(error)), links[i][0]);
		unsetenv(links[i][0]);
	}
	setenv("OUTBOX_PORTS", "8180", 1);
	CHECK(!outbox_config_read_environment(&config, error, sizeof(error)) &&
			  strstr(error, "OUTBOX_PORTS") != NULL,
		  "an unknown setting in the environment is named");
	unsetenv("OUTBOX_PORTS");
	setenv("OUTBOX_LIST", "a\nbad", 1);
	CHECK(!outbox_config_read_environment(&config, error, sizeof(error)) &&
			  strcmp(error, "environment OUTBOX_LIST: line 2: is bad") == 0,
		  "a list in the environment has its own lines");
	unsetenv("OUTBOX_LIST");
	setenv("OUTBOX_WORD", "\"LEAKED\"", 1);
	CHECK(!outbox_config_read_environment(&config, error, sizeof(error)) &&
			  strstr(error, "environment OUTBOX_WORD: has quotes around it") != NULL &&
			  strstr(error, "LEAKED") == NULL,
		  "quotes of an environment file are told");
	unsetenv("OUTBOX_WORD");
	outbox_config_free(&config);
	CHECK(read_text(&config, "secret = x\nfactor = 1.5\ncolor = blue\nside = left\nword = ab\n",
					error, sizeof(error)) &&
			  factor == 1.5 && color == 2 && side == 0 && strcmp(word, "ab") == 0,
		  "each kind of value is in its variable");
	outbox_config_free(&config);
	memset(&config, 0, sizeof(config));
	outbox_config_add(&config, options);
	outbox_config_default(&config, &secret, "whispered");
	CHECK(outbox_config_finish(&config, error, sizeof(error)) && strcmp(secret, "whispered") == 0,
		  "a program may give a default of its own");
	outbox_config_blame(&config, &number, "line 2: is odd", error, sizeof(error));
	CHECK(strcmp(error, "number: line 2: is odd") == 0, "a default is blamed without a place");
	outbox_config_free(&config);
}

static void
test_metrics(void)
{
	static const double bounds[] = {0.5, 2};
	static OutboxMetric counter = {.name = "c_total", .help = "C.", .type = OUTBOX_METRIC_COUNTER};
	static OutboxMetric gauge = {.name = "g", .help = "G.", .type = OUTBOX_METRIC_GAUGE};
	static OutboxMetric histogram = {.name = "h",
									 .help = "H.",
									 .type = OUTBOX_METRIC_HISTOGRAM,
									 .buckets = bounds,
									 .bucket_count = 2};
	char			   *text;

	outbox_metric_add(&counter, 2, "a", "q\"b\\n\nx", "b", "", NULL);
	outbox_metric_add(&counter, 1, "a", "q\"b\\n\nx", "b", "", NULL);
	outbox_metric_add(&counter, 1, "a", "other", "b", "", NULL);
	outbox_metric_add(&counter, 1, "a",
					  "Gr\xc3\xb6\xdf"
					  "e",
					  "b", "", NULL);
	outbox_metric_set(&gauge, 4, "old", "1", NULL);
	outbox_metric_clear(&gauge);
	outbox_metric_set(&gauge, -1.5, NULL);
	outbox_metric_observe(&histogram, 0.5, 3, "a", "x", NULL);
	outbox_metric_observe(&histogram, 8, 1, "a", "x", NULL);
	text = outbox_metrics_text();
	CHECK(strcmp(text,
				 "# HELP c_total C.\n# TYPE c_total counter\n"
				 "c_total{a=\"q\\\"b\\\\n\\nx\",b=\"\"} 3\n"
				 "c_total{a=\"other\",b=\"\"} 1\n"
				 "c_total{a=\"Gr\xc3\xb6?e\",b=\"\"} 1\n"
				 "# HELP g G.\n# TYPE g gauge\n"
				 "g -1.5\n"
				 "# HELP h H.\n# TYPE h histogram\n"
				 "h_bucket{a=\"x\",le=\"0.5\"} 3\n"
				 "h_bucket{a=\"x\",le=\"2\"} 3\n"
				 "h_bucket{a=\"x\",le=\"+Inf\"} 4\n"
				 "h_sum{a=\"x\"} 9.5\n"
				 "h_count{a=\"x\"} 4\n") == 0,
		  "metrics as Prometheus reads them, labels escaped");
	free(text);
}

/* A record with these headers (name, value by turns, ended by NULL), identified. */
static void
make_record(OutboxRecord *record, uint8_t *bytes, const char *const *headers)
{
	uint8_t *pos;
	int64_t	 count = 0;

	while (headers[2 * count] != NULL)
		count++;
	pos = outbox_varint_put(bytes, count);
	for (; *headers != NULL; headers += 2)
	{
		OutboxHeader header = {headers[0], strlen(headers[0]), (const uint8_t *) headers[1],
							   headers[1] != NULL ? strlen(headers[1]) : 0};

		pos = outbox_header_put(pos, &header);
	}
	memset(record, 0, sizeof(*record));
	record->topic = "orders";
	record->partition = 3;
	record->offset = 77;
	record->headers = bytes;
	record->headers_len = (size_t) (pos - bytes);
	outbox_record_identify(record);
}

#define ID_A "0189d3f5-7a7c-7b1e-8a3e-0123456789ab"
#define ID_B "0189D3F5-7A7C-7B1E-8A3E-0123456789AC"

static void
test_identity(void)
{
	OutboxRecord record;
	OutboxRecord other;
	uint8_t		 bytes[512];
	char		 made[OUTBOX_UUID_TEXT];

	make_record(&record, bytes,
				(const char *const[]) {"id", ID_B, "ce_id", ID_A, "ce_type", "T", "eventType", "U",
									   "correlationid", "c\n\xff", NULL});
	CHECK(strcmp(record.event_id, ID_A) == 0, "ce_id comes before id");
	CHECK(strcmp(record.event_type, "T") == 0, "ce_type comes before eventType");
	CHECK(strcmp(record.correlation_id, "c%0A%FF") == 0, "what is no text is percent-encoded");
	CHECK(record.traceparent == NULL, "an absent header is NULL");
	outbox_record_clear(&record);

	make_record(&record, bytes, (const char *const[]) {"ce_id", "", "id", ID_A, NULL});
	CHECK(strcmp(record.event_id, ID_A) == 0, "id serves where ce_id is none");
	outbox_record_clear(&record);

	make_record(&record, bytes, (const char *const[]) {"ce_id", NULL, "ce_id", ID_A, NULL});
	CHECK(strcmp(record.event_id, ID_A) == 0, "a NULL header is stepped over");
	outbox_record_clear(&record);

	make_record(&record, bytes, (const char *const[]) {NULL});
	memcpy(made, record.event_id, sizeof(made));
	CHECK(outbox_uuid_valid(made) && made[14] == '8' && strchr("89ab", made[19]) != NULL,
		  "without headers the id is a UUID of version 8");
	other = record;
	outbox_record_identify(&other);
	CHECK(strcmp(other.event_id, made) == 0, "made twice it is the same");
	other.offset++;
	outbox_record_identify(&other);
	CHECK(strcmp(other.event_id, made) != 0, "another offset, another id");
	other.offset--;
	other.partition++;
	outbox_record_identify(&other);
	CHECK(strcmp(other.event_id, made) != 0, "another partition, another id");
	other.partition--;
	other.topic = "orderz";
	outbox_record_identify(&other);
	CHECK(strcmp(other.event_id, made) != 0, "another topic, another id");
	other.timestamp_ms = INT64_C(253402300799999);
	outbox_record_identify(&other);
	CHECK(other.timestamp_ms == INT64_C(253402300799999), "the last day's time stamp");
	other.timestamp_ms++;
	outbox_record_identify(&other);
	CHECK(other.timestamp_ms == -1, "a time stamp that is no date is none");
}

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

/* What a record with these headers passes on, or NULL. */
static bool
passes_on(const char *traceparent, const char *expected)
{
	OutboxRecord record;
	uint8_t		 bytes[1024];
	bool		 same;

	make_record(&record, bytes,
				(const char *const[]) {"traceparent", traceparent, "tracestate", "a=1", NULL});
	if (expected == NULL)
		same =
			record.traceparent == NULL && record.tracestate == NULL && record.trace_id[0] == '\0';
	else
		same = record.traceparent != NULL && strcmp(record.traceparent, expected) == 0 &&
			strcmp(record.tracestate, "a=1") == 0 && strcmp(record.trace_id, TRACE) == 0;
	outbox_record_clear(&record);
	return same;
}

static void
test_trace(void)
{
	static const char *const good[] = {"00-" TRACE "-" PARENT "-01", "00-" TRACE "-" PARENT "-00",
									   "cc-" TRACE "-" PARENT "-01-more",
									   "cc-" TRACE "-" PARENT "-01"};
	static const char *const none[] = {"",
									   "garbage",
									   "00-" TRACE "-" PARENT "-0",
									   "00-" TRACE "-" PARENT "-01-more",
									   "00-" TRACE "-" PARENT "-0x",
									   "ff-" TRACE "-" PARENT "-01",
									   "cc-" TRACE "-" PARENT "-01.more",
									   "00-0AF7651916cd43dd8448eb211c80319c-" PARENT "-01",
									   "00-" TRACE "-0000000000000000-01",
									   "00-00000000000000000000000000000000-" PARENT "-01",
									   "00_" TRACE "-" PARENT "-01"};
	OutboxTraceContext		 context;
	OutboxTraceContext		 other;
	OutboxRecord			 record;
	uint8_t					 bytes[1024];
	char					 text[OUTBOX_TRACEPARENT_TEXT];
	char					 corr[301];

	for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
		CHECK(passes_on(good[i], good[i]), good[i]);
	for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++)
		CHECK(passes_on(none[i], NULL), none[i]);
	outbox_trace_make(good[0], &context);
	outbox_trace_print(&context, text);
	CHECK(strcmp(context.trace_id, TRACE) == 0 && strcmp(context.parent_id, PARENT) == 0 &&
			  strcmp(context.span_id, PARENT) != 0 && strlen(context.span_id) == 16 &&
			  context.flags == 1 && strncmp(text, "00-" TRACE "-", 36) == 0 &&
			  strcmp(text + 52, "-01") == 0,
		  "a child keeps trace and flags");
	outbox_trace_make(good[1], &context);
	outbox_trace_print(&context, text);
	CHECK(context.flags == 0 && strcmp(text + 52, "-00") == 0, "what is not sampled stays so");
	outbox_trace_make(NULL, &context);
	outbox_trace_make("garbage", &other);
	CHECK(context.flags == 1 && context.parent_id[0] == '\0' && strlen(context.trace_id) == 32 &&
			  other.flags == 1 && other.parent_id[0] == '\0' &&
			  strcmp(context.trace_id, other.trace_id) != 0,
		  "without a parent a trace begins, sampled");
	memset(corr, 'c', 300);
	corr[300] = '\0';
	make_record(&record, bytes, (const char *const[]) {"correlationid", corr, NULL});
	CHECK(strlen(record.correlation_id) == 256,
		  "a correlation id is cut to what the database takes");
	outbox_record_clear(&record);
}

static void
test_span_json(void)
{
	OutboxEndedSpan spans[2] = {
		{.kind = OUTBOX_SPAN_CONSUMER,
		 .target = "t",
		 .consumer = "g",
		 .offset = INT64_MAX,
		 .tombstone = true,
		 .started_ns = 1,
		 .ended_ns = INT64_MAX,
		 .error_type = "P0001",
		 .error_message = "cut \xc3"},
		{.kind = OUTBOX_SPAN_SERVER, .target = "/orders", .method = "POST", .status = 201},
	};
	char   *text = outbox_export_body("s\"", spans, 2);
	json_t *body = text != NULL ? json_loads(text, 0, NULL) : NULL;

	CHECK(json_is_object(body), "a request is JSON");
	CHECK(text != NULL &&
			  strstr(text,
					 "{\"key\":\"messaging.kafka.message.tombstone\",\"value\":{\"boolValue\":true}"
					 "}") != NULL &&
			  strstr(text, "message.key") == NULL && strstr(text, "conversation_id") == NULL,
		  "a tombstone, nothing that is empty");
	CHECK(text != NULL &&
			  strstr(text,
					 "{\"key\":\"messaging.kafka.offset\",\"value\":{\"intValue\":"
					 "\"9223372036854775807\"}}") != NULL &&
			  strstr(text, "\"endTimeUnixNano\":\"9223372036854775807\"") != NULL,
		  "64 bits are text");
	CHECK(text != NULL && strstr(text, "\"status\":{\"code\":2,\"message\":\"\"}") != NULL,
		  "a message that is no UTF-8 is left out");
	CHECK(text != NULL && strstr(text, "\"name\":\"POST /orders\",\"kind\":2") != NULL &&
			  strstr(text, "\"parentSpanId\"") == NULL,
		  "a request without a parent");
	json_decref(body);
	free(text);
}

#define REPLAY "5f0c4f62-1111-4222-9333-0123456789ab"

static void
test_replay(void)
{
	OutboxRecord record;
	uint8_t		 bytes[512];

	make_record(&record, bytes, (const char *const[]) {"ce_id", ID_A, NULL});
	CHECK(record.replay_id == NULL && outbox_record_is_for(&record, "g") && !record.reprocess &&
			  strcmp(record.claim_id, ID_A) == 0,
		  "no replay: the event is claimed");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"ce_id", ID_A, "outbox-replay-id", REPLAY,
									   "outbox-replay-group", "g", NULL});
	CHECK(outbox_record_is_for(&record, "g") && !outbox_record_is_for(&record, "gg") &&
			  !record.reprocess && strcmp(record.claim_id, ID_A) == 0,
		  "an ordinary replay: the event is claimed");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"ce_id", ID_A, "outbox-replay-id", REPLAY,
									   "outbox-replay-group",
									   "gr\xc3\xbc\xc3\x9f"
									   "e",
									   NULL});
	CHECK(outbox_record_is_for(&record,
							   "gr\xc3\xbc\xc3\x9f"
							   "e") &&
			  !outbox_record_is_for(&record, "gr????e") &&
			  !outbox_record_is_for(&record,
									"gr\xc3\xa4\xc3\x9f"
									"e"),
		  "the consumer's name is compared byte for byte");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"ce_id", ID_B, "outbox-replay-id", REPLAY,
									   "outbox-replay-mode", "reprocess", NULL});
	CHECK(record.reprocess && outbox_uuid_valid(record.claim_id) &&
			  strcmp(record.claim_id, "5e859c97-6b6d-393c-190d-000000000007") == 0,
		  "re-processing: event and replay together are claimed");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"ce_id", ID_A, "outbox-replay-id", "no uuid",
									   "outbox-replay-mode", "reprocess", NULL});
	CHECK(!record.reprocess && strcmp(record.claim_id, ID_A) == 0,
		  "a replay id that is none is not used");
	outbox_record_clear(&record);
}

static void
test_uuid_and_key(void)
{
	OutboxRecord record = {0};
	char		 buffer[8];

	CHECK(outbox_uuid_valid(ID_A) && outbox_uuid_valid(ID_B), "UUIDs of both cases");
	CHECK(!outbox_uuid_valid("") && !outbox_uuid_valid(ID_A "0") &&
			  !outbox_uuid_valid("0189d3f5-7a7c-7b1e-8a3e-0123456789a") &&
			  !outbox_uuid_valid("0189d3f5_7a7c-7b1e-8a3e-0123456789ab") &&
			  !outbox_uuid_valid("0189d3g5-7a7c-7b1e-8a3e-0123456789ab"),
		  "what is no UUID");
	CHECK(strcmp(outbox_record_key_text(&record, buffer, 8), "(none)") == 0, "no key");
	record.key = (const uint8_t *) "a-key-too-long";
	record.key_len = 14;
	CHECK(strcmp(outbox_record_key_text(&record, buffer, 8), "a-key-t") == 0,
		  "a key is cut to fit");
	record.key = (const uint8_t *) "\x00\xff\x20\x41";
	record.key_len = 4;
	CHECK(strcmp(outbox_record_key_text(&record, buffer, 8), "0x00ff") == 0,
		  "bytes in hex, cut to fit");
}

static void
test_array_text(void)
{
	OutboxArrayText array;

	outbox_array_begin(&array);
	outbox_array_finish(&array);
	CHECK(strcmp(array.text, "{}") == 0, "an empty array");
	free(array.text);
	outbox_array_begin(&array);
	outbox_array_add_integer(&array, INT64_MIN);
	outbox_array_add_text(&array, "a\"b\\c, {}");
	outbox_array_add_text(&array, "NULL");
	outbox_array_add_text(&array, NULL);
	outbox_array_add_bytes(&array, (const uint8_t *) "\x00\xfe", 2);
	outbox_array_add_bytes(&array, (const uint8_t *) "", 0);
	outbox_array_finish(&array);
	CHECK(strcmp(array.text,
				 "{-9223372036854775808,\"a\\\"b\\\\c, "
				 "{}\",\"NULL\",NULL,\"\\\\x00fe\",\"\\\\x\"}") == 0,
		  "quotes, backslashes, the word NULL, NULL, bytes");
	free(array.text);
}

static void
test_failures(void)
{
	static const struct
	{
		const char	   *sqlstate;
		OutboxDbFailure failure;
	} cases[] = {
		{"08006", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"53300", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"57P01", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"40001", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"40P01", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"55P03", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"25006", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"25P03", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"25P04", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"26000", OUTBOX_FAILURE_DEPLOY},
		{"42P05", OUTBOX_FAILURE_DEPLOY},
		{"22P02", OUTBOX_FAILURE_RECORD},
		{"22021", OUTBOX_FAILURE_DECODE},
		{"22P05", OUTBOX_FAILURE_DECODE},
		{"23505", OUTBOX_FAILURE_RECORD},
		{"P0001", OUTBOX_FAILURE_RECORD},
		{"57014", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"58030", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"XX000", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"40003", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"72000", OUTBOX_FAILURE_INFRASTRUCTURE},
		{"40002", OUTBOX_FAILURE_RECORD},
		{"OBX01", OUTBOX_FAILURE_PERMANENT},
		{"42883", OUTBOX_FAILURE_DEPLOY},
		{"28P01", OUTBOX_FAILURE_DEPLOY},
		{"3D000", OUTBOX_FAILURE_DEPLOY},
		{"42501", OUTBOX_FAILURE_DEPLOY},
		{"3F000", OUTBOX_FAILURE_DEPLOY},
		/* what emit() refuses of an event's data */
		{"42602", OUTBOX_FAILURE_RECORD},
		{"42939", OUTBOX_FAILURE_RECORD},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(outbox_failure_classify(cases[i].sqlstate) == cases[i].failure, cases[i].sqlstate);
}

static void
test_backoff(void)
{
	unsigned random = 1;
	bool	 inside = true;

	CHECK(outbox_backoff_grow(1000, 2, 60000, 1) == 1000 &&
			  outbox_backoff_grow(1000, 2, 60000, 0) == 1000,
		  "the first pause");
	CHECK(outbox_backoff_grow(1000, 2, 60000, 3) == 4000, "is doubled with each failure");
	CHECK(outbox_backoff_grow(1000, 1.5, 60000, 3) == 2250 &&
			  outbox_backoff_grow(1000, 1, 60000, 99) == 1000,
		  "or grows by another factor, or not at all");
	CHECK(outbox_backoff_grow(1000, 2, 60000, 4294967295u) == 60000, "up to the longest");
	for (int i = 0; i < 1000; i++)
	{
		int64_t pause = outbox_backoff(&random, 1 + (unsigned) i % 20);
		int64_t whole = outbox_backoff_grow(100, 2, 30000, 1 + (unsigned) i % 20);

		inside = inside && pause >= whole / 2 && pause <= whole;
	}
	CHECK(inside, "who waits for a server waits between a half and the whole of it");
}

static void
test_claims(void)
{
	CHECK(outbox_claim_decode('n') == OUTBOX_CLAIM_NEW &&
			  outbox_claim_decode('d') == OUTBOX_CLAIM_DUPLICATE &&
			  outbox_claim_decode('h') == OUTBOX_CLAIM_HELD,
		  "the answers of outbox.begin_batch");
	CHECK(outbox_claim_decode('\0') == OUTBOX_CLAIM_NONE &&
			  outbox_claim_decode('x') == OUTBOX_CLAIM_NONE,
		  "what is no answer calls no handler");
}

static void
test_sessions(void)
{
	/*
	 * read-only, ended, wrong inside, prepared statements that are gone, there or of another schema
	 */
	static const char *const ended[] = {"25006", "25P02", "25P03", "25P04", "08006",
										"08P01", "57P01", "57P02", "57P05", "58030",
										"XX000", "26000", "42P05", "0A000", "42883"};
	static const char *const kept[] = {"40001", "40P01", "55P03", "57014", "23505",
									   "22P02", "P0001", "OBX01", "53100"};

	for (size_t i = 0; i < sizeof(ended) / sizeof(ended[0]); i++)
		CHECK(outbox_failure_ends_session(ended[i]), ended[i]);
	for (size_t i = 0; i < sizeof(kept) / sizeof(kept[0]); i++)
		CHECK(!outbox_failure_ends_session(kept[i]), kept[i]);
}

static void
test_notices(void)
{
	OutboxNoticeLimit limit = {0};
	unsigned long	  left_out = 0;
	int				  taken = 0;

	for (int i = 0; i < 10000; i++)
		taken += outbox_notice_take(&limit, 1000000 + i / 10, &left_out);
	CHECK(taken > 20 && taken < 1000 && left_out == 0, "of a flood of notices some are logged");
	CHECK(outbox_notice_take(&limit, 1030000, &left_out) && left_out == 10000u - (unsigned) taken,
		  "later ones are logged again, after the number of those that were not");
	CHECK(outbox_notice_take(&limit, 1060000, &left_out) && left_out == 0,
		  "the number is told once");
}

/* When the last of five tries is begun that end their session, with these random numbers. */
static int64_t
last_try_at(unsigned random_number)
{
	int64_t at = 0;

	for (int tries = 1; tries < OUTBOX_TROUBLE_TRIES; tries++)
		at += outbox_trouble_pause(tries, at, true, 100, 60000, random_number);
	return at;
}

static void
test_trouble(void)
{
	CHECK(last_try_at(0) >= 60000, "five tries take the whole time");
	CHECK(last_try_at(4000) - last_try_at(0) == 3 * 4000,
		  "records whose sessions ended together are not tried together");
	CHECK(last_try_at(4294967295u) <= 75100, "nor much longer");
	CHECK(outbox_trouble_pause(9, 70000, true, 100, 60000, 4000) < 1000,
		  "where only proof is missing it is looked for");
	CHECK(outbox_trouble_pause(3, 59990, false, 100, 60000, 0) == 10,
		  "the time's end is not missed");
}

static void
test_client_watch(void)
{
	OutboxClientWatch watch;
	int64_t			  now = 1000;
	bool			  alive = true;

	outbox_client_watch_begin(&watch, now);
	for (int second = 1; alive && second < 60; second++)
		alive = outbox_client_watch_polled(&watch, now += 1000);
	CHECK(alive, "a client is silent for 59 s");
	watch.heard = true;
	for (int second = 0; alive && second < 60; second++)
		alive = outbox_client_watch_polled(&watch, now += 1000);
	CHECK(alive, "what is heard counts for 60 s more");
	CHECK(!outbox_client_watch_polled(&watch, now + 1000), "a client that hangs is noticed");
	outbox_client_watch_begin(&watch, now);
	CHECK(outbox_client_watch_polled(&watch, now += 3600000),
		  "an hour without polls is none of silence");
	for (int times = 0; times < 3; times++)
		alive = outbox_client_watch_polled(&watch, now += 20000);
	CHECK(!alive, "silence between calls that wait for the client is noticed too");
}

static void
test_text_copy(void)
{
	char text[6];

	outbox_text_copy(text, sizeof(text), "abcd\xc3\xa4");
	CHECK(strcmp(text, "abcd") == 0, "no half of a character");
	outbox_text_copy(text, sizeof(text), "ab\xe2\x82\xac\xe2\x82\xac");
	CHECK(strcmp(text, "ab\xe2\x82\xac") == 0, "a character that fits stays");
	outbox_text_copy(text, sizeof(text), "abc\xe2\x82\xac");
	CHECK(strcmp(text, "abc") == 0, "nor two thirds of one");
	outbox_text_copy(text, sizeof(text), "a\xf0\x9f\x98\x80");
	CHECK(strcmp(text, "a\xf0\x9f\x98\x80") == 0, "one of four bytes that ends with the buffer");
	outbox_text_copy(text, sizeof(text), "abc\xc3");
	CHECK(strcmp(text, "abc?") == 0, "bytes that are no text are shown as such");
	outbox_text_copy(text, sizeof(text), "\xe4\x80\x80\x80\x80\x80\x80");
	CHECK(strcmp(text, "\xe4\x80\x80??") == 0, "also at the cut");
}

/* What a header of these bytes is as text of at most max bytes. */
static bool
reads_as(const char *bytes, size_t len, size_t max, const char *expected)
{
	char *text = outbox_text_header(bytes, len, max);
	bool  same = strcmp(text, expected) == 0;

	free(text);
	return same;
}

static void
test_header_text(void)
{
	CHECK(reads_as("bestellung-\xc3\xa4", 13, 256, "bestellung-\xc3\xa4"), "UTF-8 stays as it is");
	CHECK(reads_as("bestellung-\xe4", 12, 256, "bestellung-%E4"), "Latin-1 is percent-encoded");
	CHECK(reads_as("a\0b\r\n\x7f", 6, 256, "a%00b%0D%0A%7F"),
		  "so are control characters, and zero bytes");
	CHECK(reads_as("\xc2\x85\xc2\xa0", 4, 256, "%C2%85\xc2\xa0"), "those of Unicode too");
	CHECK(reads_as("\xef\xbf\xbe\xef\xb7\x90\xef\xbf\xbd", 9, 256,
				   "%EF%BF%BE%EF%B7%90\xef\xbf\xbd"),
		  "and noncharacters");
	CHECK(reads_as("", 0, 256, ""), "nothing is nothing");
	CHECK(reads_as("ab\xc3\xa4", 4, 3, "ab"), "cut between two characters");
	CHECK(reads_as("ab\xc3\xa4", 4, 4, "ab\xc3\xa4"), "what fits stays");
	CHECK(reads_as("ab\xe4", 3, 4, "ab"), "an escape is not cut either");
}

/* The line that is logged of this message, as JSON; NULL: it is none. */
static json_t *
logged(const OutboxRecord *record, const char *message)
{
	static char line[32768];
	int			saved = dup(STDERR_FILENO);
	int			ends[2];
	ssize_t		len;

	if (pipe(ends) != 0)
		return NULL;
	dup2(ends[1], STDERR_FILENO);
	outbox_log_record(OUTBOX_LOG_ERROR, "test", record, "%s", message);
	dup2(saved, STDERR_FILENO);
	len = read(ends[0], line, sizeof(line));
	close(saved);
	close(ends[0]);
	close(ends[1]);
	return len > 0 ? json_loadb(line, (size_t) len, 0, NULL) : NULL;
}

static void
test_log_text(void)
{
	OutboxRecord record = {.topic = "t", .correlation_id = "\xe4"};
	char		 message[5000] = "";
	const char	*text;
	json_t		*line = logged(&record,
							   "Gr\xc3\xb6\xdf"
							   "e");

	CHECK(line != NULL &&
			  strcmp(json_string_value(json_object_get(line, "msg")), "Gr\xc3\xb6?e") == 0,
		  "a log line is UTF-8, what is none in it is shown alone");
	CHECK(strcmp(json_string_value(json_object_get(line, "correlation_id")), "?") == 0,
		  "in every member");
	json_decref(line);
	for (int i = 0; i < 1500; i++)
		strcat(message, "\xe2\x82\xac");
	line = logged(&record, message);
	text = json_string_value(json_object_get(line, "msg"));
	CHECK(text != NULL && strlen(text) % 3 == 0 && strlen(text) > 1000 &&
			  strncmp(text, message, strlen(text)) == 0,
		  "a long message is cut between two characters");
	json_decref(line);
}

/* A record whose types and ids are no ASCII, or no text. */
static void
test_foreign_text(void)
{
	OutboxRecord record;
	uint8_t		 bytes[2048];
	char		 long_id[402] = "x";

	for (int i = 0; i < 200; i++)
		strcat(long_id, "\xc3\xa4");
	make_record(&record, bytes,
				(const char *const[]) {"ce_type",
									   "Gr\xc3\xb6\xc3\x9f"
									   "e",
									   "correlationid", "bestellung-\xc3\xa4", "\xff\xfe", "\xff",
									   NULL});
	CHECK(strcmp(record.event_type,
				 "Gr\xc3\xb6\xc3\x9f"
				 "e") == 0,
		  "a type of any language");
	CHECK(strcmp(record.correlation_id, "bestellung-\xc3\xa4") == 0, "a correlation id likewise");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"ce_type",
									   "Gr\xf6\xdf"
									   "e",
									   "correlationid", long_id + 1, NULL});
	CHECK(strcmp(record.event_type, "Gr%F6%DFe") == 0, "one that is no UTF-8 is another type");
	CHECK(strlen(record.correlation_id) == 256 &&
			  strncmp(record.correlation_id, long_id + 1, 256) == 0,
		  "too long: cut");
	outbox_record_clear(&record);
	make_record(&record, bytes, (const char *const[]) {"correlationid", long_id, NULL});
	CHECK(strlen(record.correlation_id) == 255 && strncmp(record.correlation_id, long_id, 255) == 0,
		  "cut between two characters");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"traceparent", "00-" TRACE "-" PARENT "-01", "tracestate",
									   "a=\xe4", NULL});
	CHECK(record.traceparent != NULL && record.tracestate == NULL,
		  "a tracestate that is no ASCII is none");
	outbox_record_clear(&record);
	make_record(&record, bytes,
				(const char *const[]) {"traceparent", "01-" TRACE "-" PARENT "-01-\xe4", NULL});
	CHECK(record.traceparent == NULL, "a traceparent of a later version is ASCII, too");
	outbox_record_clear(&record);
}

static void
test_decoding(void)
{
	OutboxRecord record = {.value = (const uint8_t *) "{\"a\": 1, \"e\": \"\"}garbage",
						   .value_len = 17};
	OutboxCall	 call = {0};
	json_t		*object = outbox_decode_object(&record, &call);

	CHECK(object != NULL, "a value ends where the record says");
	CHECK(outbox_decode_require(object, "a", JSON_REAL, &call), "a whole number is a number");
	CHECK(!outbox_decode_require(object, "a", JSON_STRING, &call) &&
			  call.error.failure == OUTBOX_FAILURE_DECODE &&
			  strcmp(call.error.message, "field \"a\" is not a string") == 0,
		  "a field of another kind");
	CHECK(!outbox_decode_require(object, "b", JSON_STRING, &call) &&
			  strcmp(call.error.message, "required field \"b\" is missing") == 0,
		  "a field is missing");
	CHECK(!outbox_decode_require(object, "e", JSON_STRING, &call) &&
			  strcmp(call.error.message, "field \"e\" is empty") == 0,
		  "an empty field");
	json_decref(object);
	outbox_call_begin(&call, "SELECT f($1, $2)");
	outbox_call_add_text(&call, "one");
	outbox_call_add_text(&call, NULL);
	outbox_call_set_text(&call, 1, "two");
	CHECK(call.count == 2 && strcmp(call.values[0], "one") == 0 &&
			  strcmp(call.values[1], "two") == 0,
		  "a value whose place was kept is set");
	outbox_call_set_text(&call, 1, NULL);
	CHECK(call.count == 2 && call.values[1] == NULL, "and taken back");
	outbox_call_clear(&call);
	record.value_len++;
	CHECK(outbox_decode_object(&record, &call) == NULL &&
			  strncmp(call.error.message, "not JSON", 8) == 0,
		  "garbage after the object");
	record.value = NULL;
	CHECK(outbox_decode_object(&record, &call) == NULL, "no value");
}

int
main(void)
{
	test_settings();
	test_refused_settings();
	test_metrics();
	test_identity();
	test_trace();
	test_span_json();
	test_replay();
	test_uuid_and_key();
	test_array_text();
	test_failures();
	test_backoff();
	test_claims();
	test_sessions();
	test_notices();
	test_trouble();
	test_client_watch();
	test_text_copy();
	test_header_text();
	test_foreign_text();
	test_log_text();
	test_decoding();
	return finish_tests();
}
