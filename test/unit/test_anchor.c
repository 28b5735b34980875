/* SPDX-License-Identifier: PostgreSQL
 *
 * test_anchor.c
 *	  Whether a log is the one that was read: digests, what an
 *	  anchor proves, where reading goes on, which anchors are kept.
 */
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "services/kafka/digest.h"
#include "services/kafka/record.h"
#include "services/runtime/anchor.h"

#define BYTES(text) (const uint8_t *) (text), sizeof(text) - 1
#define NOTHING		NULL, 0
#define EMPTY		(const uint8_t *) "", 0

static void
test_digest(void)
{
	static uint8_t value[OUTBOX_DIGEST_BYTES + 2];
	uint64_t	   digest = outbox_record_digest(BYTES("k"), BYTES("v"));
	uint64_t	   big = outbox_record_digest(NOTHING, value, sizeof(value));

	CHECK(digest == outbox_record_digest(BYTES("k"), BYTES("v")), "a record has one digest");
	CHECK(digest == UINT64_C(0x319bec237bc7385a),
		  "and the same for ever: it is kept in the database");
	CHECK(digest != outbox_record_digest(BYTES("k"), BYTES("w")), "another value");
	CHECK(digest != outbox_record_digest(BYTES("l"), BYTES("v")), "another key");
	CHECK(digest != outbox_record_digest(BYTES("kv"), EMPTY),
		  "a byte moved from the value to the key");
	CHECK(outbox_record_digest(NOTHING, BYTES("v")) != outbox_record_digest(EMPTY, BYTES("v")),
		  "no key is no empty key");
	CHECK(outbox_record_digest(BYTES("k"), NOTHING) != outbox_record_digest(BYTES("k"), EMPTY),
		  "a tombstone is no empty value");
	CHECK(big != outbox_record_digest(NOTHING, value, sizeof(value) - 1),
		  "the length counts behind the first 64 kB");
	value[OUTBOX_DIGEST_BYTES] = 1;
	CHECK(big == outbox_record_digest(NOTHING, value, sizeof(value)),
		  "the bytes behind the first 64 kB do not");
	value[OUTBOX_DIGEST_BYTES - 1] = 1;
	CHECK(big != outbox_record_digest(NOTHING, value, sizeof(value)), "the last of them does");
}

static void
test_event_id(void)
{
	OutboxRecord record = {.topic = "orders",
						   .partition = 3,
						   .offset = 17,
						   .timestamp_ms = 1700000000000,
						   .key = (const uint8_t *) "k",
						   .key_len = 1,
						   .value = (const uint8_t *) "v",
						   .value_len = 1};
	OutboxRecord other = record;
	char		 old_id[OUTBOX_UUID_TEXT];
	char		 other_old[OUTBOX_UUID_TEXT];

	outbox_record_identify(&record);
	other.timestamp_ms++;
	outbox_record_identify(&other);
	CHECK(strcmp(record.event_id, other.event_id) != 0, "another time stamp, another record");
	other.timestamp_ms = record.timestamp_ms;
	other.value = (const uint8_t *) "w";
	outbox_record_identify(&other);
	CHECK(strcmp(record.event_id, other.event_id) != 0, "another content, another record");
	outbox_record_old_id(&record, old_id);
	outbox_record_old_id(&other, other_old);
	CHECK(strcmp(old_id, "00125d92-50bd-8b4c-8000-000000000011") == 0,
		  "the old identity is the one of versions before: hash of the topic, partition and "
		  "offset");
	CHECK(strcmp(old_id, other_old) == 0, "which neither time stamp nor content change");
	CHECK(outbox_record_time(-5) == -1 && outbox_record_time(0) == 0, "a time before 1970 is none");
}

/* The proof of an anchor at 10 with time stamp 5 and digest 7. */
static OutboxProof
judge(OutboxFound found, int64_t timestamp_ms, int64_t digest, int64_t low, int64_t high,
	  bool keeps_all)
{
	const OutboxAnchor	anchor = {10, 5, 7};
	const OutboxLogView view = {found, timestamp_ms, digest, high >= 0, low, high, keeps_all};

	return outbox_anchor_judge(&anchor, &view);
}

static void
test_judge(void)
{
	CHECK(judge(OUTBOX_FOUND_RECORD, 5, 7, 0, 20, true) == OUTBOX_PROOF_STANDS,
		  "the record is there");
	CHECK(judge(OUTBOX_FOUND_RECORD, 5, 7, 0, -1, true) == OUTBOX_PROOF_STANDS,
		  "also when the range is not known");
	CHECK(judge(OUTBOX_FOUND_RECORD, 6, 7, 0, 20, false) == OUTBOX_PROOF_REFUTED,
		  "another time stamp");
	CHECK(judge(OUTBOX_FOUND_RECORD, 5, 8, 0, 20, false) == OUTBOX_PROOF_REFUTED, "another digest");
	CHECK(judge(OUTBOX_FOUND_UNREAD, 0, 0, 0, 10, false) == OUTBOX_PROOF_REFUTED,
		  "the log ends before it");
	CHECK(judge(OUTBOX_FOUND_UNREAD, 0, 0, 0, 11, false) == OUTBOX_PROOF_UNREAD,
		  "what is not read proves nothing");
	CHECK(judge(OUTBOX_FOUND_UNREAD, 0, 0, 0, -1, false) == OUTBOX_PROOF_UNREAD,
		  "nor does a log nobody answers for");
	CHECK(judge(OUTBOX_FOUND_NONE, 0, 0, 0, -1, true) == OUTBOX_PROOF_UNREAD,
		  "no record in a range that is not known");
	CHECK(judge(OUTBOX_FOUND_NONE, 0, 0, 11, 20, true) == OUTBOX_PROOF_GONE,
		  "deleted by retention");
	CHECK(judge(OUTBOX_FOUND_UNREAD, 0, 0, 11, 20, true) == OUTBOX_PROOF_GONE,
		  "which cannot be read");
	CHECK(judge(OUTBOX_FOUND_NONE, 0, 0, 10, 20, false) == OUTBOX_PROOF_GONE, "compacted away");
	CHECK(judge(OUTBOX_FOUND_NONE, 0, 0, 10, 20, true) == OUTBOX_PROOF_REFUTED,
		  "no record where nothing is compacted: a marker of another log");
}

typedef enum Seen
{
	SAME,
	DIFFERENT,
	COMPACTED,
	UNREAD,
} Seen;

/* Runs a case of three anchors, 90, 50 and 10, in a log [low, high); how many were asked. */
static int
run_case(OutboxLogCase *log, int count, int64_t position, int64_t low, int64_t high,
		 const Seen *seen)
{
	static const OutboxAnchor anchors[] = {{90, 1, 1}, {50, 1, 1}, {10, 1, 1}};
	int						  asked = 0;
	int64_t					  offset;

	outbox_log_case_begin(log, &(OutboxAnchor) {-1, 0, 0}, anchors, count, position);
	while (outbox_log_case_open(log, &offset))
	{
		OutboxLogView view = {OUTBOX_FOUND_UNREAD, 1, 1, high >= 0, low, high, false};

		if (asked < count && seen[asked] != UNREAD)
			view.found = seen[asked] == COMPACTED ? OUTBOX_FOUND_NONE : OUTBOX_FOUND_RECORD;
		if (asked < count && seen[asked] == DIFFERENT)
			view.digest = 2;
		outbox_log_case_see(log, &view);
		asked++;
	}
	return asked;
}

static void
test_verdicts(void)
{
	OutboxLogCase log;

	CHECK(run_case(&log, 3, 100, 0, 100, (Seen[]) {SAME}) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_SAME && outbox_log_case_is_good(&log),
		  "the newest anchor stands: good, no other is asked");
	CHECK(run_case(&log, 3, 100, 0, 99, (Seen[]) {SAME}) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 91,
		  "the end below the position: reading goes on after the newest that stands");
	CHECK(run_case(&log, 3, 100, 0, 200, (Seen[]) {DIFFERENT, DIFFERENT, SAME}) == 3 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 11,
		  "a log that was cut: after the newest anchor that stands");
	CHECK(run_case(&log, 3, 100, 0, 200, (Seen[]) {DIFFERENT, DIFFERENT, DIFFERENT}) == 3 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 0,
		  "none stands: the beginning");
	CHECK(run_case(&log, 3, 100, 0, 20, (Seen[]) {UNREAD, UNREAD, SAME}) == 3 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 11,
		  "anchors behind the end are refuted unread");
	CHECK(run_case(&log, 3, 100, 0, 100, (Seen[]) {COMPACTED, SAME}) == 2 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_SAME && outbox_log_case_is_good(&log),
		  "compacted away: the next older one is asked");
	CHECK(run_case(&log, 3, 100, 0, 100, (Seen[]) {COMPACTED, DIFFERENT, SAME}) == 3 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 11,
		  "which may prove another log");
	CHECK(run_case(&log, 3, 100, 95, 100, (Seen[]) {UNREAD, UNREAD, UNREAD}) == 3 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_NO_PROOF,
		  "below the log's start: none is left, no proof");
	CHECK(run_case(&log, 3, 100, 0, 100, (Seen[]) {UNREAD, SAME}) == 2 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_SAME && !outbox_log_case_is_good(&log),
		  "unread: an older one stands, but no new anchor is left");
	CHECK(run_case(&log, 3, 100, 0, 100, (Seen[]) {UNREAD, UNREAD, UNREAD}) == 3 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_UNREAD,
		  "nothing can be read: not known");
	CHECK(run_case(&log, 0, 100, 0, 100, NULL) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_NO_PROOF,
		  "no anchor, and the position is in the log: no proof");
	CHECK(run_case(&log, 0, 100, 0, 99, NULL) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER,
		  "no anchor, and the position is behind the end: another log");
	CHECK(run_case(&log, 0, 100, 0, -1, NULL) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_UNREAD,
		  "no anchor and no answer: not known");
	CHECK(run_case(&log, 0, -1, 0, 0, NULL) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_NO_PROOF,
		  "nothing was read: an empty log is none of ours, and no other");
}

/*
 * The verdict when the record read last, 95, is as told and the only anchor, 90, stands or does
 * not.
 */
static OutboxLogVerdict
run_last(OutboxLogCase *log, Seen last, Seen anchor, int64_t high)
{
	int64_t offset;

	outbox_log_case_begin(log, &(OutboxAnchor) {95, 1, 1}, &(OutboxAnchor) {90, 1, 1}, 1, 96);
	while (outbox_log_case_open(log, &offset))
	{
		Seen		  seen = offset == 95 ? last : anchor;
		OutboxLogView view = {seen == UNREAD		? OUTBOX_FOUND_UNREAD :
								  seen == COMPACTED ? OUTBOX_FOUND_NONE :
													  OUTBOX_FOUND_RECORD,
							  1,
							  seen == DIFFERENT ? 2 : 1,
							  true,
							  0,
							  high,
							  false};

		outbox_log_case_see(log, &view);
	}
	return outbox_log_case_verdict(log);
}

static void
test_last(void)
{
	OutboxLogCase log;
	int64_t		  offset;

	CHECK(run_last(&log, SAME, SAME, 100) == OUTBOX_LOG_SAME && outbox_log_case_is_good(&log),
		  "both stand: good");
	CHECK(run_last(&log, DIFFERENT, SAME, 100) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 91,
		  "a log cut behind its newest anchor and grown again: read again after the anchor");
	CHECK(run_last(&log, SAME, DIFFERENT, 100) == OUTBOX_LOG_OTHER &&
			  outbox_log_case_restart(&log) == 0,
		  "the record read last may be of the other log: it never stands for the anchor");
	CHECK(run_last(&log, COMPACTED, SAME, 100) == OUTBOX_LOG_SAME && outbox_log_case_is_good(&log),
		  "compacted away it says nothing");
	CHECK(run_last(&log, UNREAD, SAME, 100) == OUTBOX_LOG_SAME && !outbox_log_case_is_good(&log),
		  "unread: no new anchor is left");
	outbox_log_case_begin(&log, &(OutboxAnchor) {95, 1, 1}, NULL, 0, 96);
	CHECK(outbox_log_case_open(&log, &offset) && offset == 95, "without anchors it alone is asked");
	outbox_log_case_see(&log, &(OutboxLogView) {OUTBOX_FOUND_RECORD, 1, 2, true, 0, 100, false});
	CHECK(!outbox_log_case_open(&log, &offset) && outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER,
		  "and is proof enough");
	outbox_log_case_begin(&log, &(OutboxAnchor) {90, 1, 1}, &(OutboxAnchor) {90, 1, 1}, 1, 96);
	outbox_log_case_see(&log, &(OutboxLogView) {OUTBOX_FOUND_RECORD, 1, 1, true, 0, 100, false});
	CHECK(outbox_log_case_verdict(&log) == OUTBOX_LOG_SAME,
		  "where it is the anchor it is asked once");
}

/* A leader that does not answer is asked once, whatever there is to ask. */
static void
test_silent(void)
{
	OutboxLogCase log;

	CHECK(run_case(&log, 3, 100, 0, -1, (Seen[]) {UNREAD, SAME, SAME}) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_UNREAD,
		  "neither range nor record: no older anchor is asked");
	CHECK(run_case(&log, 3, 100, 0, -1, (Seen[]) {DIFFERENT, UNREAD, SAME}) == 2 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_OTHER,
		  "what was proved before stays proved");
	CHECK(run_case(&log, 3, 100, 0, -1, (Seen[]) {SAME}) == 1 &&
			  outbox_log_case_verdict(&log) == OUTBOX_LOG_SAME,
		  "a record without a range is an answer");
}

/*
 * The case of a member that has the anchor 0 and asks for what outbox_suspect_choose says; the log
 * was cut at 3 and has grown to 20.
 */
static OutboxLogVerdict
run_suspect(OutboxAnchor *suspect, const OutboxAnchor *newest, bool answers)
{
	const OutboxAnchor asked = *outbox_suspect_choose(suspect, newest);
	OutboxLogCase	   log;
	int64_t			   offset;

	outbox_log_case_begin(&log, &asked, &(OutboxAnchor) {0, 1, 1}, 1, newest->offset + 1);
	while (outbox_log_case_open(&log, &offset))
	{
		OutboxLogView view = {OUTBOX_FOUND_RECORD, 1, offset < 3 ? 1 : 2, true, 0, 20, true};

		outbox_log_case_see(&log, answers ? &view : &(OutboxLogView) {OUTBOX_FOUND_UNREAD});
	}
	outbox_suspect_answered(suspect, &asked, outbox_log_case_verdict(&log));
	return outbox_log_case_verdict(&log);
}

static void
test_suspect(void)
{
	const OutboxAnchor before = {9, 1, 1};
	const OutboxAnchor after = {14, 1, 2};
	OutboxAnchor	   suspect = {-1, 0, 0};

	CHECK(run_suspect(&suspect, &after, true) == OUTBOX_LOG_SAME,
		  "the record read last of a log that was cut and grew says nothing of what was skipped");
	outbox_suspect_doubt(&suspect, &before);
	CHECK(run_suspect(&suspect, &before, false) == OUTBOX_LOG_UNREAD && suspect.offset == 9,
		  "unread the doubt stays");
	outbox_suspect_doubt(&suspect, &after);
	CHECK(suspect.offset == 9, "a later doubt is the same one");
	CHECK(run_suspect(&suspect, &after, true) == OUTBOX_LOG_OTHER,
		  "what was read before the doubt proves the cut");
	CHECK(suspect.offset == 9 && run_suspect(&suspect, &after, true) == OUTBOX_LOG_OTHER,
		  "once more when it is looked at again, whatever was read meanwhile");
	suspect.offset = -1;
	CHECK(run_suspect(&suspect, &before, false) == OUTBOX_LOG_UNREAD && suspect.offset == 9,
		  "a check without an answer is a doubt, too");
	suspect.offset = -1;
	CHECK(run_suspect(&suspect, &before, true) == OUTBOX_LOG_OTHER && suspect.offset == 9,
		  "and so is a proof");
	suspect = (OutboxAnchor) {2, 1, 1};
	CHECK(run_suspect(&suspect, &after, true) == OUTBOX_LOG_SAME && suspect.offset == -1,
		  "what stands settles it");
}

static void
test_spacing(void)
{
	OutboxAnchor anchors[OUTBOX_ANCHORS];
	int			 count = 0;
	bool		 few = true;
	bool		 apart = true;
	bool		 given = true;

	for (int64_t n = 1; n <= 20000; n++)
	{
		const OutboxAnchor anchor = {n * 10, n, n};
		int				   before = count;
		int64_t			   given_up = outbox_anchors_add(anchors, &count, &anchor);

		few = few && count == (n < OUTBOX_ANCHORS ? n : OUTBOX_ANCHORS);
		given = given && (given_up >= 0) == (before == OUTBOX_ANCHORS);
		for (int i = 0; i < count; i++)
			given = given && anchors[i].offset != given_up;
		for (int i = 0; i + 1 < count; i++)
			apart = apart && anchors[i].offset > anchors[i + 1].offset;
	}
	CHECK(few, "at most eight are kept");
	CHECK(apart && anchors[0].offset == 200000 && anchors[0].digest == 20000, "the newest first");
	CHECK(given, "the one given up is told");
	CHECK(anchors[1].offset >= 199900, "near the newest they are close");
	CHECK(anchors[OUTBOX_ANCHORS - 1].offset == 10, "the oldest stays");
	apart = true;
	for (int i = 1; i + 2 < count; i++)
		apart = apart &&
			anchors[i + 1].offset - anchors[i + 2].offset >
				anchors[i].offset - anchors[i + 1].offset;
	CHECK(apart, "and they are ever farther apart");
}

int
main(void)
{
	test_digest();
	test_event_id();
	test_judge();
	test_verdicts();
	test_last();
	test_silent();
	test_suspect();
	test_spacing();
	return finish_tests();
}
