/* SPDX-License-Identifier: PostgreSQL
 *
 * unit.h
 *	  The few lines a unit test needs: TAP-like output and a last line
 *	  "N passed, N failed".
 */
#ifndef OUTBOX_TEST_UNIT_H
#define OUTBOX_TEST_UNIT_H

#include <stdbool.h>
#include <stdio.h>

static int tests_passed;
static int tests_failed;

static inline void
check_that(bool ok, const char *what, const char *file, int line)
{
	if (ok)
		tests_passed++;
	else
		tests_failed++;
	printf("%s %d - %s\n", ok ? "ok" : "not ok", tests_passed + tests_failed, what);
	if (!ok)
		printf("# %s:%d\n", file, line);
	fflush(stdout);
}

#define CHECK(condition, what) check_that((condition), (what), __FILE__, __LINE__)

static inline int
finish_tests(void)
{
	printf("1..%d\n%d passed, %d failed\n", tests_passed + tests_failed, tests_passed,
		   tests_failed);
	return tests_failed == 0 && tests_passed > 0 ? 0 : 1;
}

#endif /* OUTBOX_TEST_UNIT_H */
