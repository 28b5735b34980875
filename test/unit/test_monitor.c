/* SPDX-License-Identifier: PostgreSQL
 *
 * test_monitor.c
 *	  The pure parts of outbox-monitor: statuses, when alerts begin and end, and their keys.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "unit.h"
#include "services/monitor/alert_key.h"
#include "services/monitor/alert_rules.h"
#include "services/monitor/group_settings.h"
#include "services/monitor/lag_status.h"
#include "services/monitor/lag_snapshot.h"

/* The status after polls, each as committed offset + lag: "5+3 6+2". */
static const char *
status_of(const char *polls, bool owned)
{
	OutboxLagWindow window = {.count = 0};
	int64_t			committed;
	int64_t			lag;
	int				used;

	for (; sscanf(polls, "%" SCNd64 "+%" SCNd64 "%n", &committed, &lag, &used) == 2; polls += used)
		outbox_lag_window_add(&window, committed, lag);
	return outbox_lag_status_name(outbox_lag_judge(&window, owned));
}

static void
test_statuses(void)
{
	static const struct
	{
		const char *what;
		const char *status;
		bool		owned;
		const char *polls;
	} cases[] = {
		{"nothing is known", "UNKNOWN", true, ""},
		{"the first poll without lag", "OK", false, "5+0"},
		{"the first poll with lag", "UNKNOWN", true, "5+3"},
		{"an idle topic", "OK", false, "5+0 5+0 5+0 5+0 5+0 5+0 5+0 5+0 5+0 5+0"},
		{"nine polls say nothing", "UNKNOWN", true, "5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3"},
		{"stands, owned", "STALL", true, "5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+4"},
		{"stands, not owned", "STOP", false, "5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+4"},
		{"stands, but was caught up within the window", "OK", true,
		 "5+0 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+4"},
		{"that poll has left the window", "STALL", true,
		 "5+0 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+3 5+4"},
		{"moves, the lag never falls", "WARN", true, "1+5 2+5 3+6 4+7 5+8 6+9 7+9 8+9 9+9 10+10"},
		{"moves, the lag fell once", "OK", true, "1+5 2+5 3+6 4+5 5+8 6+9 7+9 8+9 9+9 10+10"},
		{"went back", "REWIND", true, "9+0 2+7"},
		{"went back, and has caught up again", "OK", true, "9+0 2+7 9+0"},
		{"went back ten polls ago", "OK", true, "9+1 2+8 3+8 4+7 5+6 6+5 7+4 8+3 9+2 10+2 11+1"},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(strcmp(status_of(cases[i].polls, cases[i].owned), cases[i].status) == 0,
			  cases[i].what);
}

static OutboxLagSample
make_sample(int64_t now_ms, int64_t lag, double seconds, OutboxLagStatus status)
{
	OutboxLagSample sample = {.now_ms = now_ms,
							  .lag = lag,
							  .seconds = seconds,
							  .threshold = 120,
							  .status = status,
							  .complete = true,
							  .deserted = false,
							  .grace_ms = 30000};

	return sample;
}

static OutboxAlertChange
judge(OutboxAlertState *state, int64_t lag, double seconds, OutboxLagStatus status)
{
	OutboxLagSample sample = make_sample(1, lag, seconds, status);

	return outbox_alert_judge_lag(state, &sample);
}

static void
test_lag_alerts(void)
{
	OutboxAlertState state = {0};

	CHECK(judge(&state, 9, 120, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE && state.polls == 0,
		  "the threshold itself is good");
	CHECK(judge(&state, 9, 121, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE,
		  "one poll above it is not enough");
	CHECK(judge(&state, 9, 119, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE &&
			  judge(&state, 9, 121, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE,
		  "two, but not in a row");
	CHECK(judge(&state, 9, 122, OUTBOX_LAG_OK) == OUTBOX_ALERT_TRIGGER &&
			  state.reasons == OUTBOX_REASON_SECONDS,
		  "two in a row begin the alert");
	CHECK(judge(&state, 9, 500, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE, "once");
	CHECK(judge(&state, 9, 61, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE && state.firing,
		  "above half the threshold it goes on");
	CHECK(judge(&state, OUTBOX_LAG_NULL, -1, OUTBOX_LAG_UNKNOWN) == OUTBOX_ALERT_NONE &&
			  state.firing,
		  "what is not known does not end it");
	CHECK(judge(&state, 9, 59, OUTBOX_LAG_OK) == OUTBOX_ALERT_RESOLVE && !state.firing,
		  "below half it ends");
	CHECK(judge(&state, 9, 59, OUTBOX_LAG_OK) == OUTBOX_ALERT_NONE, "once, too");
	judge(&state, 9, 60, OUTBOX_LAG_STALL);
	CHECK(judge(&state, 9, 60, OUTBOX_LAG_STOP) == OUTBOX_ALERT_NONE && state.polls == 0,
		  "an offset that stands for less than half the threshold may be one of rare commits");
	judge(&state, 9, 61, OUTBOX_LAG_STALL);
	CHECK(judge(&state, 9, 61, OUTBOX_LAG_STOP) == OUTBOX_ALERT_TRIGGER &&
			  state.reasons == OUTBOX_REASON_STOP,
		  "for longer, STALL and STOP begin one");
	CHECK(judge(&state, 0, 0, OUTBOX_LAG_OK) == OUTBOX_ALERT_RESOLVE, "no lag ends it");
	judge(&state, 9, -1, OUTBOX_LAG_STALL);
	CHECK(judge(&state, 9, -1, OUTBOX_LAG_STALL) == OUTBOX_ALERT_TRIGGER &&
			  state.reasons == OUTBOX_REASON_STALL,
		  "and so do they when nobody knows for how long");
	CHECK(judge(&state, 0, 0, OUTBOX_LAG_OK) == OUTBOX_ALERT_RESOLVE, "no lag ends it");
}

static void
test_unknown_ends_nothing(void)
{
	OutboxAlertState state = {.firing = true};
	OutboxLagSample	 sample = make_sample(1, 9, 3, OUTBOX_LAG_OK);

	sample.complete = false;
	CHECK(outbox_alert_judge_lag(&state, &sample) == OUTBOX_ALERT_NONE,
		  "after a restart, before the window is full");
	sample.lag = 0;
	CHECK(outbox_alert_judge_lag(&state, &sample) == OUTBOX_ALERT_NONE,
		  "a lag that is not known is not 0");
	sample.complete = true;
	CHECK(outbox_alert_judge_lag(&state, &sample) == OUTBOX_ALERT_RESOLVE, "one that is 0 is");
}

/* A group of two partitions, both with a commit and the second caught up. */
static OutboxLagSnapshot *
make_snapshot(int64_t lag, int64_t pending_ms)
{
	static OutboxLagPartition partitions[2];
	static OutboxLagGroup	  group;
	static OutboxLagSnapshot  snapshot;

	for (int i = 0; i < 2; i++)
		partitions[i] = (OutboxLagPartition) {.topic = "t",
											  .partition = i,
											  .committed = 5,
											  .pending_ms = OUTBOX_LAG_NULL,
											  .window = {.count = 1, .points = {{5, 0}}}};
	partitions[0].lag = lag;
	partitions[0].pending_ms = pending_ms;
	group = (OutboxLagGroup) {.name = "g",
							  .answered = true,
							  .total_lag = OUTBOX_LAG_NULL,
							  .threshold = 120,
							  .partitions = partitions,
							  .partition_count = 2};
	snapshot = (OutboxLagSnapshot) {.groups = &group, .group_count = 1};
	outbox_lag_snapshot_judge(&snapshot);
	return &snapshot;
}

static void
test_unknown_ages(void)
{
	OutboxLagGroup *group = make_snapshot(0, OUTBOX_LAG_NULL)->groups;

	CHECK(group->complete && outbox_group_seconds(group, 500000) == 0,
		  "caught up: 0 s, and all is known");
	group = make_snapshot(3, 400000)->groups;
	CHECK(group->complete && outbox_group_seconds(group, 500000) == 100, "the age of what waits");
	group = make_snapshot(3, OUTBOX_LAG_NULL)->groups;
	CHECK(!group->complete && outbox_group_seconds(group, 500000) < 0,
		  "an age that could not be read is not 0");
	group = make_snapshot(OUTBOX_LAG_NULL, OUTBOX_LAG_NULL)->groups;
	CHECK(!group->complete && outbox_group_seconds(group, 500000) < 0,
		  "nor is that of an unknown lag");
	group->partitions[1].lag = 1;
	group->partitions[1].pending_ms = 379999;
	CHECK(outbox_group_seconds(group, 500000) == 120.001, "a known one above the threshold counts");
}

/* A committed offset that is not in its log. */
static void
test_ranges(void)
{
	static const struct
	{
		const char	  *what;
		int64_t		   beyond;
		int64_t		   lost;
		OutboxLogRange range;
	} cases[] = {
		{"in the log", 0, 0, {.committed = 5, .start_before = 0, .start = 0, .end = 9}},
		{"at its end", 0, 0, {.committed = 9, .start_before = 0, .start = 0, .end = 9}},
		{"at its begin", 0, 0, {.committed = 5, .start_before = 5, .start = 5, .end = 9}},
		{"above its end", 38, 0, {.committed = 54, .start_before = 0, .start = 0, .end = 16}},
		{"one above its end", 1, 0, {.committed = 10, .start_before = 0, .start = 0, .end = 9}},
		{"an empty log", 54, 0, {.committed = 54, .start_before = 40, .start = 0, .end = 0}},
		{"nothing committed", 0, 0, {.committed = -1, .start_before = 3, .start = 3, .end = 9}},
		{"an end that is not known",
		 0,
		 0,
		 {.committed = 54, .start_before = 0, .start = 0, .end = -1}},
		{"no such partition",
		 54,
		 0,
		 {.committed = 54, .start_before = -1, .start = -1, .end = -1, .missing = true}},
		{"records lost", 0, 4, {.committed = 5, .start_before = 9, .start = 9, .end = 12}},
		{"more since then", 0, 4, {.committed = 5, .start_before = 9, .start = 11, .end = 12}},
		{"all of them lost", 0, 7, {.committed = 5, .start_before = 12, .start = 12, .end = 12}},
		{"begin and commit read in the wrong order",
		 0,
		 0,
		 {.committed = 5, .start_before = 5, .start = 9, .end = 12}},
		{"the first look", 0, 0, {.committed = 5, .start_before = -1, .start = 9, .end = 12}},
		{"the begin not known now",
		 0,
		 0,
		 {.committed = 5, .start_before = 9, .start = -1, .end = 12}},
		{"a log made anew, longer",
		 0,
		 0,
		 {.committed = 5, .start_before = 9, .start = 0, .end = 12}},
		{"nothing that could be read was lost",
		 0,
		 0,
		 {.committed = 5, .start_before = 9, .start = 9, .end = 12, .clear_to = 9}},
		{"some of it could be read",
		 0,
		 4,
		 {.committed = 5, .start_before = 9, .start = 9, .end = 12, .clear_to = 8}},
		{"a marker before an empty log",
		 0,
		 0,
		 {.committed = 5, .start_before = 6, .start = 6, .end = 6}},
		{"a record that was seen there",
		 0,
		 1,
		 {.committed = 5, .start_before = 6, .start = 6, .end = 6, .record_seen = true}},
		{"one record before others",
		 0,
		 1,
		 {.committed = 5, .start_before = 6, .start = 6, .end = 7}},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		CHECK(outbox_lag_beyond(&cases[i].range) == cases[i].beyond &&
				  outbox_lag_lost(&cases[i].range) == cases[i].lost,
			  cases[i].what);
}

/*
 * The snapshot of one poll: a group's partition 0 of "t" with these offsets, measured and judged.
 */
static OutboxLagGroup *
poll_group(OutboxLagSnapshot **before, int64_t committed, int64_t start, int64_t end)
{
	OutboxLagSnapshot  *snapshot = calloc(1, sizeof(*snapshot));
	OutboxLagGroup	   *group = outbox_lag_snapshot_add_group(snapshot, "g");
	OutboxLagPartition *partition = outbox_group_partition(group, "t", 0);

	group->answered = true;
	partition->committed = committed;
	outbox_lag_snapshot_sort(snapshot);
	outbox_lag_snapshot_carry(snapshot, *before);
	partition->start = start;
	partition->end = partition->stable = end;
	outbox_partition_measure(partition);
	outbox_lag_snapshot_judge(snapshot);
	outbox_lag_snapshot_free(*before);
	*before = snapshot;
	return group;
}

static void
test_outside(void)
{
	OutboxLagSnapshot *snapshot = NULL;
	OutboxLagGroup	  *group = poll_group(&snapshot, 54, 0, 54);

	CHECK(group->status == OUTBOX_LAG_OK && !group->beyond && group->ranges_known &&
			  group->complete,
		  "caught up");
	group = poll_group(&snapshot, 54, 0, 16);
	CHECK(group->status == OUTBOX_LAG_BEYOND && group->beyond && group->partitions[0].beyond == 38,
		  "above the end: a status of its own");
	CHECK(group->partitions[0].lag == OUTBOX_LAG_NULL && group->total_lag == OUTBOX_LAG_NULL &&
			  !group->complete && outbox_group_seconds(group, 500000) < 0,
		  "with a lag that nobody knows, never 0");
	group = poll_group(&snapshot, 16, 0, 16);
	CHECK(group->status == OUTBOX_LAG_OK && !group->beyond && group->total_lag == 0,
		  "in the log again");
	group = poll_group(&snapshot, 16, 30, 40);
	CHECK(group->status != OUTBOX_LAG_LOST, "what one look says may be a commit not yet seen");
	group = poll_group(&snapshot, 16, 30, 40);
	CHECK(group->status == OUTBOX_LAG_LOST && group->lost && group->partitions[0].lost == 14 &&
			  group->total_lag == 10,
		  "records lost: what is left is the lag");
	group = poll_group(&snapshot, 40, 30, 40);
	CHECK(group->status == OUTBOX_LAG_OK && !group->lost && group->ranges_known, "read on");
	group = poll_group(&snapshot, 40, OUTBOX_LAG_NULL, 40);
	CHECK(!group->ranges_known && group->complete && group->total_lag == 0,
		  "a begin that is not known is no lag");
	group = poll_group(&snapshot, 40, 45, 50);
	CHECK(group->partitions[0].start_before == 30, "the last begin that was known");
	group->partitions[0].start = 0;
	group->partitions[0].stable = 38;
	outbox_partition_measure(&group->partitions[0]);
	CHECK(group->partitions[0].beyond == 0 && group->partitions[0].lag == 0,
		  "who reads uncommitted records is ahead of the stable offset, not beyond the end");
	outbox_lag_snapshot_free(snapshot);
}

static void
test_range_alerts(void)
{
	OutboxAlertState state = {0};

	CHECK(outbox_alert_judge_ranges(&state, true, false, true) == OUTBOX_ALERT_NONE &&
			  outbox_alert_judge_ranges(&state, false, false, true) == OUTBOX_ALERT_NONE,
		  "one poll is not enough");
	outbox_alert_judge_ranges(&state, true, false, false);
	CHECK(outbox_alert_judge_ranges(&state, true, true, false) == OUTBOX_ALERT_TRIGGER &&
			  state.reasons == (OUTBOX_REASON_BEYOND | OUTBOX_REASON_LOST),
		  "two in a row are");
	CHECK(outbox_alert_judge_ranges(&state, false, false, false) == OUTBOX_ALERT_NONE &&
			  state.firing,
		  "what is not known ends nothing");
	CHECK(outbox_alert_judge_ranges(&state, false, false, true) == OUTBOX_ALERT_RESOLVE,
		  "offsets in their logs do");
}

static void
test_keys(void)
{
	char key[32];
	char other[32];
	char longest[OUTBOX_ALERT_KEY];

	outbox_alert_key_cut(key, sizeof(key), "lag/kafka/1234567890123456789");
	CHECK(strcmp(key, "lag/kafka/1234567890123456789") == 0, "a key that fits");
	outbox_alert_key_cut(key, sizeof(key), "dead-letters/\xc3\xa4/name that is too long");
	outbox_alert_key_cut(other, sizeof(other), "dead-letters/\xc3\xa4/name that is too lonG");
	CHECK(strncmp(key, "dead-letters/#", 14) == 0 && strlen(key) == 30,
		  "cut before a character of two bytes");
	CHECK(strcmp(key, other) != 0 && strncmp(key, other, 14) == 0, "two of one beginning stay two");
	outbox_alert_key(longest, "lag/%01000d", 1);
	CHECK(strlen(longest) == OUTBOX_ALERT_KEY - 1 && strchr(longest, '#') != NULL,
		  "as long as there is room");
}

static void
test_deserted(void)
{
	OutboxAlertState state = {0};
	OutboxLagSample	 sample = make_sample(1000, 9, 3, OUTBOX_LAG_UNKNOWN);

	sample.deserted = true;
	outbox_alert_judge_lag(&state, &sample);
	sample.now_ms = 30999;
	outbox_alert_judge_lag(&state, &sample);
	CHECK(state.polls == 0, "no members for less than the grace");
	sample.now_ms = 31000;
	outbox_alert_judge_lag(&state, &sample);
	sample.now_ms = 32000;
	CHECK(outbox_alert_judge_lag(&state, &sample) == OUTBOX_ALERT_TRIGGER &&
			  state.reasons == OUTBOX_REASON_NO_MEMBERS,
		  "for longer");
	sample.deserted = false;
	CHECK(outbox_alert_judge_lag(&state, &sample) == OUTBOX_ALERT_RESOLVE, "somebody came");
	sample.deserted = true;
	sample.now_ms = 40000;
	outbox_alert_judge_lag(&state, &sample);
	sample.lag = 0;
	outbox_alert_judge_lag(&state, &sample);
	CHECK(state.deserted_at == 0, "nobody is needed where nothing waits");
}

static void
test_depth_alerts(void)
{
	OutboxAlertState state = {0};

	CHECK(outbox_alert_judge_depth(&state, 10, 10) == OUTBOX_ALERT_NONE && state.polls == 0,
		  "as many as the threshold are good");
	outbox_alert_judge_depth(&state, 11, 10);
	CHECK(outbox_alert_judge_depth(&state, 11, 10) == OUTBOX_ALERT_TRIGGER, "more, twice, are not");
	CHECK(outbox_alert_judge_depth(&state, 6, 10) == OUTBOX_ALERT_NONE, "more than half go on");
	CHECK(outbox_alert_judge_depth(&state, 5, 10) == OUTBOX_ALERT_RESOLVE, "half end it");
	outbox_alert_judge_depth(&state, 1, 0);
	CHECK(outbox_alert_judge_depth(&state, 1, 0) == OUTBOX_ALERT_TRIGGER, "a threshold of 0");
	CHECK(outbox_alert_judge_depth(&state, 0, 0) == OUTBOX_ALERT_RESOLVE, "and its end");
}

static void
test_held_alerts(void)
{
	OutboxAlertState state = {0};

	CHECK(outbox_alert_judge_held(&state, 59.9, 60) == OUTBOX_ALERT_NONE && state.polls == 0,
		  "held for less than the threshold");
	outbox_alert_judge_held(&state, 60, 60);
	CHECK(outbox_alert_judge_held(&state, 65, 60) == OUTBOX_ALERT_TRIGGER &&
			  state.reasons == OUTBOX_REASON_HELD,
		  "for longer, twice");
	CHECK(outbox_alert_judge_held(&state, 1, 60) == OUTBOX_ALERT_NONE && state.firing,
		  "held anew between two polls it goes on");
	CHECK(outbox_alert_judge_held(&state, -1, 60) == OUTBOX_ALERT_RESOLVE,
		  "it ends when the topic is not held");
	outbox_alert_judge_held(&state, 0, 0);
	CHECK(outbox_alert_judge_held(&state, 0, 0) == OUTBOX_ALERT_TRIGGER, "a threshold of 0");
}

static void
test_patterns(void)
{
	const char *list = "# ours\n\n  outbox-* \nshop-?";

	CHECK(outbox_group_is_listed(list, "outbox-relay"), "a pattern's blanks are not its own");
	CHECK(outbox_group_is_listed(list, "shop-1"), "the last line needs no end");
	CHECK(!outbox_group_is_listed(list, "shop-12"), "a pattern fits the whole name");
	CHECK(!outbox_group_is_listed(list, "# ours"), "a line with # is no pattern");
	CHECK(!outbox_group_is_listed("", "shop-1"), "an empty list has none");
}

static void
test_thresholds(void)
{
	const char *list = "#pay*=1\npay*=30\n* = 60\na=b=7";
	char		error[128] = "";

	CHECK(outbox_group_check_thresholds(list, error, sizeof(error)),
		  "lines and comments are taken");
	CHECK(outbox_group_threshold(list, "payment", 120) == 30, "the first line that fits counts");
	CHECK(outbox_group_threshold(list, "shop", 120) == 60, "blanks around = are allowed");
	CHECK(outbox_group_threshold("a=b=7", "a=b", 120) == 7, "the last = ends the pattern");
	CHECK(outbox_group_threshold("pay*=30", "shop", 120) == 120, "else the setting for all");
	CHECK(!outbox_group_check_thresholds("shop", error, sizeof(error)) &&
			  strstr(error, "line 1") != NULL,
		  "a line without seconds is refused");
	CHECK(!outbox_group_check_thresholds("a=1;b=2", error, sizeof(error)) &&
			  strstr(error, "a line of its own") != NULL,
		  "two in a line are refused");
}

int
main(void)
{
	test_statuses();
	test_lag_alerts();
	test_unknown_ends_nothing();
	test_unknown_ages();
	test_ranges();
	test_outside();
	test_range_alerts();
	test_keys();
	test_deserted();
	test_depth_alerts();
	test_held_alerts();
	test_patterns();
	test_thresholds();
	return finish_tests();
}
