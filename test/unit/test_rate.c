/* SPDX-License-Identifier: PostgreSQL
 *
 * test_rate.c
 *	  Slow links: how deadlines grow and batches are cut; texts that must fit.
 */
#include <string.h>

#include "unit.h"
#include "src/common/rate_plan.h"
#include "src/common/text.h"

#define MB INT64_C(1048576)

/* The sender's defaults, and the limit of a broker that nobody has configured. */
static const OutboxDeadlines base = {.message_ms = 30000,
									 .transaction_ms = 45000,
									 .socket_ms = 10000};
#define LIMIT_MS 900000

static void
test_unseen_rate(void)
{
	OutboxDeadlines now = base;
	OutboxProgress	none = {.bytes = 32 * MB};

	CHECK(outbox_rate_of(&none) == 0 && outbox_rate_need_ms(&none) == 0,
		  "without an acknowledgement no rate is known");
	CHECK(outbox_rate_grow(&base, &now, &none, LIMIT_MS, &now) && now.message_ms == 60000 &&
			  now.transaction_ms == 75000 && now.socket_ms == 20000,
		  "then each try has twice the time");
	CHECK(outbox_rate_grow(&base, &now, &none, LIMIT_MS, &now) && now.message_ms == 120000,
		  "and twice again");
	for (int i = 0; i < 10; i++)
		outbox_rate_grow(&base, &now, &none, LIMIT_MS, &now);
	CHECK(now.transaction_ms == LIMIT_MS && now.message_ms == LIMIT_MS - 15000,
		  "up to what Kafka lets a transaction take");
	CHECK(now.socket_ms == OUTBOX_RATE_SOCKET_MS, "and librdkafka a request");
	CHECK(!outbox_rate_grow(&base, &now, &none, LIMIT_MS, &now), "that is told as the end of it");
}

static void
test_seen_rate(void)
{
	OutboxDeadlines next;
	OutboxProgress	slow = {.bytes = 32 * MB, .done = 2 * MB, .took_ms = 32000};
	OutboxProgress	slowest = {.bytes = 32 * MB, .done = 1000, .took_ms = 30000};

	CHECK(outbox_rate_of(&slow) == 65536, "bytes a second");
	CHECK(outbox_rate_grow(&base, &base, &slow, LIMIT_MS, &next) && next.message_ms == 768000,
		  "a rate that was seen says what the whole batch needs");
	CHECK(next.message_ms > 32 * MB / 65536 * 1000, "which is more than it takes");
	CHECK(outbox_rate_grow(&base, &base, &slowest, LIMIT_MS, &next) &&
			  next.transaction_ms == LIMIT_MS,
		  "what needs more than may be gets what may be");
	CHECK(outbox_rate_grow(&base, &base, &slowest, 0, &next) &&
			  next.message_ms <= OUTBOX_RATE_MOST_MS,
		  "without a limit a day");
	CHECK(!outbox_rate_grow(&base,
							&(OutboxDeadlines) {.message_ms = 30000,
												.transaction_ms = 45000,
												.socket_ms = 60000},
							&slow, 45000, &next) &&
			  next.message_ms == 30000,
		  "settings at the limit stay");
	CHECK(!outbox_rate_grow(&base,
							&(OutboxDeadlines) {.message_ms = 30000,
												.transaction_ms = 45000,
												.socket_ms = 60000},
							&slow, 1000, &next) &&
			  next.message_ms == 30000,
		  "a limit below the settings takes nothing away");
}

static void
test_cut(void)
{
	const int64_t setting = 32 * MB;
	int64_t		  most;

#define CUT(most, size, done_, ms) \
	outbox_rate_cut((most), setting, \
					&(OutboxProgress) {.bytes = (size), .done = (done_), .took_ms = (ms)}, 30000)
	CHECK(CUT(0, 32 * MB, 32 * MB, 7000) == 0, "a batch well in time is no reason to cut");
	most = CUT(0, 32 * MB, 32 * MB, 512000);
	CHECK(most == 65536 * 7500 / 1000, "later batches take a quarter of the time");
	CHECK(CUT(0, 32 * MB, 2 * MB, 32000) == most, "the rate of a failed try says the same");
	CHECK(CUT(0, 32 * MB, 0, 0) == 0 && CUT(most, 32 * MB, 0, 0) == most,
		  "one that shows no rate says nothing");
	CHECK(CUT(0, 100, 100, 29000) == 0, "neither does a small one, whatever it waited for");
	CHECK(CUT(0, MB, 70000, 29000) == OUTBOX_RATE_LEAST_BYTES, "there is a least size");
	CHECK(CUT(most, most, most, 7000) == most, "batches as they should be stay so");
	CHECK(CUT(most, most, most, 1000) == 2 * most, "quick ones grow again");
	CHECK(CUT(most, most / 3, most / 3, 1) == most, "but only large ones show that they may");
	CHECK(CUT(24 * MB, 24 * MB, 24 * MB, 100) == 0, "until the setting counts");
#undef CUT
}

static void
test_fit(void)
{
	char text[41];
	char tiny[5];

	outbox_text_fit(text, sizeof(text), "short");
	CHECK(strcmp(text, "short") == 0, "what fits is kept");
	outbox_text_fit(text, sizeof(text), "1234567890123456789012345678901234567890");
	CHECK(strlen(text) == 40 && strstr(text, "...") == NULL, "also when it just fits");
	outbox_text_fit(text, sizeof(text),
					"what was done, with very many words that say little: the cause");
	CHECK(strlen(text) == 40 && strncmp(text, "what was done", 13) == 0 &&
			  strstr(text, "...") != NULL && strcmp(text + 40 - 11, ": the cause") == 0,
		  "the middle is cut, the end stays");
	outbox_text_fit(text, sizeof(text),
					"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
					"\xa9\xc3\xa9"
					"\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3"
					"\xa9\xc3\xa9\xc3\xa9\xc3\xa9");
	CHECK(strspn(text, "\xc3\xa9.") == strlen(text) && strlen(text) % 2 == 1 &&
			  (unsigned char) strstr(text, "...")[3] == 0xc3,
		  "no character is cut");
	outbox_text_fit(tiny, sizeof(tiny), "the cause");
	CHECK(strcmp(tiny, "ause") == 0, "a tiny place has the end");
}

int
main(void)
{
	test_unseen_rate();
	test_seen_rate();
	test_cut();
	test_fit();
	return finish_tests();
}
