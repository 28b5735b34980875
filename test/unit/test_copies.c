/* SPDX-License-Identifier: PostgreSQL
 *
 * test_copies.c
 *	  Whose the cursor is, what the marker says, and who is alive.
 *
 * Calls the relay's own rules; the tables are the rows of this file.
 */
#include "postgres.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "mb/pg_wchar.h"

#include "bgworker/launcher/marker.h"
#include "bgworker/relay/alive.h"
#include "bgworker/relay/start_rules.h"

#include "unit.h"

#define ROWS 20

MemoryContext CurrentMemoryContext = NULL;

static bool removed[ROWS + 1]; /* rows the ring no longer has */

/* Rows 1 to ROWS, each with a nonce of its number. */
bool
outbox_batch_log_load(int64 batch_no, MemoryContext context, OutboxBatchRow *row)
{
	(void) context;
	if (batch_no < 1 || batch_no > ROWS || removed[batch_no])
		return false;
	memset(row, 0, sizeof(*row));
	row->batch_no = batch_no;
	memset(row->nonce.data, (int) batch_no, UUID_LEN);
	row->timeline = 1;
	row->system_id = 7;
	row->database = 5;
	return true;
}

static OutboxIdentity
make_identity(void)
{
	OutboxIdentity identity = {.system_id = 7, .database = 5, .timeline = 1};

	strlcpy(identity.host, "here", sizeof(identity.host));
	strlcpy(identity.data_directory, "/data", sizeof(identity.data_directory));
	strlcpy(identity.directory.text, "b00t.1.2", sizeof(identity.directory.text));
	return identity;
}

/* As this server wrote it behind batch_no. */
static OutboxKafkaCursor
make_cursor(int64 batch_no)
{
	OutboxKafkaCursor cursor = {.present = true,
								.readable = true,
								.batch_no = batch_no,
								.left_out = 0,
								.system_id = 7,
								.database = 5,
								.timeline = 1};

	memset(cursor.nonce.data, (int) batch_no, UUID_LEN);
	strlcpy(cursor.host, "here", sizeof(cursor.host));
	strlcpy(cursor.data_directory, "/data", sizeof(cursor.data_directory));
	strlcpy(cursor.directory, "b00t.1.2", sizeof(cursor.directory));
	return cursor;
}

static OutboxComparison
compare(const OutboxKafkaCursor *cursor, const OutboxIdentity *identity, bool may_lag)
{
	OutboxBatchRow	 last = {0};
	OutboxComparison result;

	(void) outbox_batch_log_load(ROWS, NULL, &last);
	outbox_start_compare(cursor, &last, identity, may_lag, &result);
	return result;
}

static bool
holds_as(const OutboxKafkaCursor *cursor, const OutboxIdentity *identity, OutboxDivergenceKind kind)
{
	OutboxComparison result = compare(cursor, identity, false);

	return result.verdict == OUTBOX_START_DIVERGED && result.kind == kind;
}

static OutboxKafkaCursor
from_elsewhere(int64 batch_no)
{
	OutboxKafkaCursor cursor = make_cursor(batch_no);

	strlcpy(cursor.host, "elsewhere", sizeof(cursor.host));
	strlcpy(cursor.data_directory, "/other", sizeof(cursor.data_directory));
	strlcpy(cursor.directory, "b00t2.3.4", sizeof(cursor.directory));
	return cursor;
}

static void
test_place_does_not_decide(void)
{
	OutboxIdentity	  identity = make_identity();
	OutboxKafkaCursor cursor = from_elsewhere(ROWS);

	CHECK(compare(&cursor, &identity, false).verdict == OUTBOX_START_GO_ON,
		  "a cursor that names a row of mine with its nonce is mine, wherever it was written");
	cursor = from_elsewhere(ROWS - 1);
	CHECK(compare(&cursor, &identity, false).verdict == OUTBOX_START_SEND_AGAIN,
		  "so is one that names the row before");
	identity.marker_verdict = OUTBOX_MARKER_UNKNOWN;
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY), "without a marker host and path decide");
	cursor = make_cursor(ROWS);
	strlcpy(cursor.directory, "b00t2.3.4", sizeof(cursor.directory));
	CHECK(compare(&cursor, &identity, false).verdict == OUTBOX_START_GO_ON,
		  "without a marker the same host and path go on");
	cursor = from_elsewhere(ROWS);
	identity.timeline = 2;
	CHECK(compare(&cursor, &identity, false).verdict == OUTBOX_START_GO_ON,
		  "on a later timeline host and path are not asked");
	identity.timeline = 1;
	identity.system_id = 8;
	CHECK(compare(&cursor, &identity, false).verdict == OUTBOX_START_GO_ON, "nor after pg_upgrade");
}

static void
test_copy_or_lost_history(void)
{
	OutboxIdentity	  identity = make_identity();
	OutboxKafkaCursor cursor = make_cursor(ROWS + 3);

	CHECK(holds_as(&cursor, &identity, OUTBOX_LOST_HISTORY),
		  "an unknown batch that this very directory wrote: history was lost");
	cursor = from_elsewhere(ROWS + 3);
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY), "an unknown batch of another place: a copy");
	strlcpy(cursor.host, "here", sizeof(cursor.host));
	strlcpy(cursor.data_directory, "/data", sizeof(cursor.data_directory));
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY),
		  "a copy, too, where host and path are alike but the directory is not");
	cursor = from_elsewhere(ROWS);
	cursor.nonce.data[0] ^= 1;
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY), "another nonce of another place: a copy");
	cursor = from_elsewhere(4);
	cursor.nonce.data[0] ^= 1;
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY), "also far behind");
	cursor = make_cursor(ROWS);
	cursor.nonce.data[0] ^= 1;
	CHECK(holds_as(&cursor, &identity, OUTBOX_LOST_HISTORY),
		  "another nonce of this directory: history was lost");
	identity.timeline = 2;
	cursor = from_elsewhere(ROWS + 1);
	CHECK(holds_as(&cursor, &identity, OUTBOX_LOST_HISTORY),
		  "on a later timeline history was lost");
	identity.timeline = 1;
	identity.system_id = 8;
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY),
		  "after pg_upgrade the old cluster may have gone on");
	identity = make_identity();
	cursor.directory[0] = '\0';
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY),
		  "a note without a directory: host and path tell");
	cursor = make_cursor(ROWS + 1);
	cursor.directory[0] = '\0';
	CHECK(holds_as(&cursor, &identity, OUTBOX_LOST_HISTORY),
		  "a note without a directory from here: history was lost");
}

static void
test_other_rules_stay(void)
{
	OutboxIdentity	  identity = make_identity();
	OutboxKafkaCursor cursor = make_cursor(5);

	CHECK(holds_as(&cursor, &identity, OUTBOX_LOST_HISTORY), "far behind: Kafka has lost commits");
	CHECK(compare(&cursor, &identity, true).verdict == OUTBOX_START_SEND_AGAIN,
		  "far behind, where it may lag");
	removed[5] = true;
	CHECK(holds_as(&cursor, &identity, OUTBOX_LOST_HISTORY) &&
			  strstr(compare(&cursor, &identity, false).reason, "lost commits"),
		  "a row the ring has let go: lost commits");
	removed[5] = false;
	cursor = make_cursor(ROWS);
	cursor.timeline = 2;
	CHECK(holds_as(&cursor, &identity, OUTBOX_SUPERSEDED), "a later timeline's cursor supersedes");
	cursor = make_cursor(ROWS);
	cursor.database = 6;
	CHECK(holds_as(&cursor, &identity, OUTBOX_COPY), "another database is a copy");
	cursor.present = false;
	CHECK(compare(&cursor, &identity, false).verdict == OUTBOX_START_CURSOR_LOST,
		  "no cursor: as ever");
}

static void
test_note(void)
{
	OutboxIdentity identity = make_identity();
	OutboxBatchRow row = {.left_out = 3};
	char		   note[OUTBOX_NOTE_SIZE];

	outbox_cursor_write_note(note, sizeof(note), &row, &identity, false, true);
	CHECK(strstr(note, "\ndirectory=b00t.1.2\n") != NULL,
		  "the note says from which directory it was written");
}

/* Which transactional id the cursor was committed with, and by whom, decides about the other. */
static void
test_pass_over(void)
{
	OutboxIdentity	  identity = make_identity();
	OutboxKafkaCursor cursor = make_cursor(ROWS);
	OutboxBatchRow	  row = {.batch_no = ROWS};
	char			  note[OUTBOX_NOTE_SIZE];

	outbox_cursor_write_note(note, sizeof(note), &row, &identity, false, true);
	outbox_cursor_read_note(note, strlen(note), &cursor);
	CHECK(cursor.spare, "the note says with which id");
	CHECK(outbox_start_may_pass_over(&cursor, &identity, false),
		  "our own commit's id may be passed over, its sender is gone");
	strlcpy(cursor.directory, "b00t.9.9", sizeof(cursor.directory));
	CHECK(!outbox_start_may_pass_over(&cursor, &identity, false),
		  "not that of a commit of another server");
	CHECK(outbox_start_may_pass_over(&cursor, &identity, true), "the id it did not use may be");
	cursor.lags = true;
	CHECK(!outbox_start_may_pass_over(&cursor, &identity, true),
		  "not after at_least_once, which uses none");
	cursor.directory[0] = '\0';
	CHECK(!outbox_start_may_pass_over(&cursor, &identity, false), "nor of one that is not named");
	cursor.present = false;
	CHECK(outbox_start_may_pass_over(&cursor, &identity, false), "without a commit each may be");
}

static void
test_marker_file(void)
{
	OutboxMarker marker = {.inode = 77,
						   .born_s = 1700000000,
						   .born_ns = 42,
						   .copied = true,
						   .timeline = 3,
						   .made_at = -5};
	OutboxMarker again = {0};
	char		 text[512];

	memset(marker.id.data, 0xa5, UUID_LEN);
	outbox_marker_format(text, sizeof(text), &marker);
	CHECK(outbox_marker_parse(text, &again) && again.inode == 77 && again.born_s == 1700000000 &&
			  again.born_ns == 42 && again.copied && again.timeline == 3 && again.made_at == -5 &&
			  memcmp(&again.id, &marker.id, sizeof(pg_uuid_t)) == 0,
		  "a marker is read as it was written");
	text[strlen(text) / 2] = '\0';
	CHECK(!outbox_marker_parse(text, &again) && !outbox_marker_parse("", &again) &&
			  !outbox_marker_parse("outbox marker 2", &again),
		  "cut off, empty or of another version: no marker");
	CHECK(outbox_marker_fits(&marker, 77, 1700000000, 42), "it fits its own inode and birth");
	CHECK(!outbox_marker_fits(&marker, 78, 1700000000, 42), "another inode is another file");
	CHECK(!outbox_marker_fits(&marker, 77, 1700000000, 43), "so is the same inode born again");
	CHECK(outbox_marker_fits(&marker, 77, -1, 0), "without a birth time the inode decides");
	marker.born_s = -1;
	CHECK(outbox_marker_fits(&marker, 77, 1700000000, 42), "the same where the marker has none");
}

static void
test_marker_verdict(void)
{
	OutboxMarker   marker = {.made_at = 1000};
	OutboxMarker   elsewhere = {.made_at = 1000};
	OutboxAccepted accepted = {.present = true, .timeline = 1, .created_at = 10};
	OutboxAccepted none = {.created_at = 10};

	memset(elsewhere.id.data, 1, UUID_LEN);
	CHECK(outbox_marker_judge(&marker, true, &accepted, 1) == OUTBOX_MARKER_FITS,
		  "the marker it knows");
	CHECK(outbox_marker_judge(&marker, false, &accepted, 1) == OUTBOX_MARKER_COPIED,
		  "one that does not fit");
	CHECK(outbox_marker_judge(NULL, false, &accepted, 1) == OUTBOX_MARKER_UNKNOWN,
		  "none (pg_upgrade)");
	CHECK(outbox_marker_judge(&elsewhere, true, &accepted, 1) == OUTBOX_MARKER_UNKNOWN,
		  "one made where there was none (pg_upgrade, a second database of it)");
	elsewhere.copied = true;
	CHECK(outbox_marker_judge(&elsewhere, true, &accepted, 1) == OUTBOX_MARKER_COPIED,
		  "one made for a copy stays a copy's, restart after restart, for every database");
	CHECK(outbox_marker_judge(&elsewhere, true, &none, 1) == OUTBOX_MARKER_COPIED,
		  "a database copied along before its first relay is a copy");
	none.created_at = 2000;
	CHECK(outbox_marker_judge(&elsewhere, true, &none, 1) == OUTBOX_MARKER_UNKNOWN,
		  "one made in the copy is none");
	CHECK(outbox_marker_judge(&elsewhere, true, &accepted, 2) == OUTBOX_MARKER_LATER &&
			  outbox_marker_judge(&marker, false, &accepted, 2) == OUTBOX_MARKER_LATER &&
			  outbox_marker_judge(NULL, false, &accepted, 2) == OUTBOX_MARKER_LATER,
		  "on a later timeline an earlier one's marker is not asked");
	elsewhere.timeline = 2;
	CHECK(outbox_marker_judge(&elsewhere, true, &accepted, 2) == OUTBOX_MARKER_COPIED,
		  "a database that has not relayed since a promotion is a copy's where the files were "
		  "copied after it");
	elsewhere.copied = false;
	CHECK(outbox_marker_judge(&elsewhere, true, &accepted, 2) == OUTBOX_MARKER_LATER,
		  "but not where they were not");
	elsewhere.copied = true;
	accepted.timeline = 2;
	CHECK(outbox_marker_judge(&elsewhere, true, &accepted, 2) == OUTBOX_MARKER_COPIED,
		  "but on that timeline again");
}

static void
test_marker_plan(void)
{
	OutboxMarker found = {.timeline = 2, .inode = 7, .copied = true};
	OutboxMarker next;

	CHECK(outbox_marker_plan(NULL, false, 2, &next) && !next.copied && next.timeline == 2,
		  "none: one is written");
	CHECK(!outbox_marker_plan(&found, true, 2, &next), "one that fits stays");
	CHECK(outbox_marker_plan(&found, true, 3, &next) && !next.copied && next.timeline == 3 &&
			  memcmp(&next.id, &found.id, sizeof(pg_uuid_t)) == 0,
		  "recovered in place, it learns of the timeline, on which nothing was copied");
	CHECK(outbox_marker_plan(&found, false, 2, &next) && next.copied,
		  "one that does not fit makes a copy of this directory");
	found.copied = false;
	CHECK(outbox_marker_plan(&found, false, 3, &next) && !next.copied,
		  "not of a promoted standby, whose databases that never relayed may begin");
	memset(&found, 0, sizeof(found));
	CHECK(outbox_marker_plan(&found, false, 1, &next), "one that cannot be read is replaced");
}

/* A member's client id. */
static const char *
token(int timeline, uint64_t system_id, const char *place, unsigned int database)
{
	static char		texts[4][OUTBOX_TOKEN_SIZE];
	static int		next;
	char		   *text = texts[next++ % 4];
	OutboxDirectory directory;

	strlcpy(directory.text, place, sizeof(directory.text));
	outbox_alive_write_token(text, OUTBOX_TOKEN_SIZE, timeline, system_id, &directory, database);
	return text;
}

static void
test_members(void)
{
	char own[OUTBOX_TOKEN_SIZE];

	strlcpy(own, token(2, 7, "b-00-t.1.2", 5), sizeof(own));
	CHECK(!outbox_alive_is_other(own, own), "my own token is a process of mine that is dead");
	CHECK(!outbox_alive_is_other(own, token(1, 7, "b-00-t.1.2", 5)),
		  "also from before a promotion");
	CHECK(outbox_alive_is_other(own, token(2, 7, "b-00-u.1.2", 5)), "another boot is another node");
	CHECK(outbox_alive_is_other(own, token(2, 7, "b-00-t.1.3", 5)),
		  "another directory is another server");
	CHECK(outbox_alive_is_other(own, token(2, 7, "b-00-t.1.2", 6)),
		  "another database is a copy (TEMPLATE)");
	CHECK(!outbox_alive_is_other(own, token(1, 7, "b-00-u.9.9", 5)),
		  "an earlier timeline is superseded");
	CHECK(outbox_alive_is_other(own, token(3, 7, "b-00-u.9.9", 5)), "a later one is not");
	CHECK(outbox_alive_is_other(own, token(1, 8, "b-00-u.9.9", 5)),
		  "timelines of another system do not compare");
	CHECK(!outbox_alive_is_other(own, "rdkafka"), "a client that is no relay does not count");
	CHECK(outbox_alive_is_other(own, "outbox-alive.2.what"), "a relay of another version does");
}

static OutboxAliveVerdict
judge(bool other, int64_t other_for_ms, bool last_writer)
{
	return outbox_alive_judge(&(OutboxAliveView) {.other = other,
												  .other_for_ms = other_for_ms,
												  .gone_for_ms = -1,
												  .last_writer = last_writer,
												  .joined = true,
												  .allowed = true});
}

static OutboxAliveVerdict
judge_join(bool joined, bool allowed, int64_t joining_for_ms)
{
	return outbox_alive_judge(&(OutboxAliveView) {.joined = joined,
												  .allowed = allowed,
												  .other_for_ms = -1,
												  .gone_for_ms = -1,
												  .joining_for_ms = joining_for_ms});
}

static void
test_verdicts(void)
{
	CHECK(judge(false, -1, false) == OUTBOX_ALIVE_ALONE, "nobody: on at once");
	CHECK(judge(true, 0, false) == OUTBOX_ALIVE_LOOK &&
			  judge(true, 10000, false) == OUTBOX_ALIVE_LOOK,
		  "another is looked at until its session of 10 s is over");
	CHECK(judge(true, 20000, false) == OUTBOX_ALIVE_LOOK,
		  "also one that died while its join waited for a dead one: 10 s and 10 s");
	CHECK(judge(true, OUTBOX_ALIVE_LOOK_MS + 12000, true) == OUTBOX_ALIVE_LOOK,
		  "the last writer outlasts the other's look and, where it was killed, its session");
	CHECK(judge(true, OUTBOX_ALIVE_LOOK_MS, false) == OUTBOX_ALIVE_HOLD, "still there: hold");
	CHECK(judge(true, OUTBOX_ALIVE_LOOK_MS, true) == OUTBOX_ALIVE_LOOK &&
			  judge(true, OUTBOX_ALIVE_WRITER_MS, true) == OUTBOX_ALIVE_HOLD,
		  "of two that look at each other the last writer stays longer");
	CHECK(outbox_alive_judge(&(OutboxAliveView) {.other_for_ms = 4000,
												 .gone_for_ms = 0,
												 .joined = true,
												 .allowed = true}) == OUTBOX_ALIVE_LOOK,
		  "gone just now: it may only have a new sender");
	CHECK(outbox_alive_judge(&(OutboxAliveView) {.other_for_ms = 9000,
												 .gone_for_ms = OUTBOX_ALIVE_GONE_MS,
												 .joined = true,
												 .allowed = true}) == OUTBOX_ALIVE_ALONE,
		  "gone for good: on");
	CHECK(judge_join(false, true, 0) == OUTBOX_ALIVE_LOOK, "nobody can see me yet: ask again");
	CHECK(judge_join(false, true, OUTBOX_ALIVE_JOIN_MS) == OUTBOX_ALIVE_ALONE,
		  "a join that does not come is not waited for for ever");
	CHECK(judge_join(false, false, 0) == OUTBOX_ALIVE_ALONE, "no right to the group: on");
}

static void
test_directory(void)
{
	OutboxDirectory one;
	OutboxDirectory two;

	outbox_directory_identify("/", &one);
	outbox_directory_identify("/", &two);
	CHECK(strcmp(one.text, two.text) == 0 && strlen(one.text) > 36,
		  "a directory is the same twice");
	outbox_directory_identify("/proc", &two);
	CHECK(strcmp(one.text, two.text) != 0, "another one is not");
}

static void
test_boot_id(void)
{
	char one[40];
	char two[40];
	char three[40];

	outbox_boot_id_read("/proc/sys/kernel/random/boot_id", one, sizeof(one));
	outbox_boot_id_read("/proc/sys/kernel/random/boot_id", two, sizeof(two));
	CHECK(strlen(one) == 36 && strcmp(one, two) == 0, "the kernel's boot id");
	outbox_boot_id_read("/nowhere", two, sizeof(two));
	outbox_boot_id_read("/nowhere", three, sizeof(three));
	CHECK(strncmp(two, "unknown-", 8) == 0 && strcmp(two, three) != 0,
		  "where there is none, no two processes have one in common: a clone would be taken for "
		  "this directory");
	outbox_boot_id_read("/dev/null", one, sizeof(one));
	CHECK(strncmp(one, "unknown-", 8) == 0 && strcmp(one, two) != 0, "the same for an empty file");
}

/* In a child: statx is forbidden, as by a seccomp filter that is older than it. */
static bool
fits_without_statx(int fd, const OutboxMarker *marker)
{
	struct sock_filter rules[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_statx, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {.len = lengthof(rules), .filter = rules};
	int				  status = 0;
	pid_t			  child = fork();

	if (child == 0)
	{
		struct statx refused;
		uint64		 inode;
		int64		 born_s;
		int64		 born_ns;

		if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
			prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0 ||
			statx(fd, "", AT_EMPTY_PATH, STATX_INO, &refused) == 0 || errno != EPERM)
			_exit(2);
		_exit(outbox_marker_stat(fd, &inode, &born_s, &born_ns) && born_s == -1 &&
					  outbox_marker_fits(marker, inode, born_s, born_ns) ?
				  0 :
				  1);
	}
	return child > 0 && waitpid(child, &status, 0) == child && status == 0;
}

static void
test_marker_stat(void)
{
	OutboxMarker marker = {0};
	int			 fd = open("/proc/self/exe", O_RDONLY);

	CHECK(outbox_marker_stat(fd, &marker.inode, &marker.born_s, &marker.born_ns) &&
			  marker.inode != 0,
		  "an open file has an inode");
	CHECK(fits_without_statx(fd, &marker), "where statx is forbidden the inode alone decides");
	CHECK(!outbox_marker_stat(-1, &marker.inode, &marker.born_s, &marker.born_ns),
		  "no file, no marker");
	close(fd);
}

/* A note of another server in another encoding, and one that is cut inside a character. */
static void
test_reason_is_text(void)
{
	OutboxIdentity	  identity = make_identity();
	OutboxKafkaCursor cursor = from_elsewhere(ROWS + 3);
	OutboxComparison  result;

	for (int at = 0; at + 2 < (int) sizeof(cursor.data_directory); at += 2)
		memcpy(cursor.data_directory + at, "\xc3\xa4", 3);
	cursor.host[0] = '\xff';
	cursor.data_directory[0] = '/';
	cursor.data_directory[1] = '/';
	cursor.data_directory[2] = '/';
	result = compare(&cursor, &identity, false);
	CHECK(pg_encoding_verifymbstr(PG_UTF8, result.reason, (int) strlen(result.reason)) <
			  (int) strlen(result.reason),
		  "what another server wrote may be no text here");
	outbox_start_mend_reason(&result, PG_UTF8);
	CHECK(pg_encoding_verifymbstr(PG_UTF8, result.reason, (int) strlen(result.reason)) ==
				  (int) strlen(result.reason) &&
			  strstr(result.reason, "?lsewhere:///") != NULL &&
			  strstr(result.reason, "\xc3\xa4\xc3\xa4") != NULL,
		  "question marks for what is none, the rest stays");
}

int
main(void)
{
	test_place_does_not_decide();
	test_copy_or_lost_history();
	test_other_rules_stay();
	test_note();
	test_pass_over();
	test_marker_file();
	test_marker_verdict();
	test_marker_plan();
	test_members();
	test_verdicts();
	test_directory();
	test_boot_id();
	test_marker_stat();
	test_reason_is_text();
	return finish_tests();
}
