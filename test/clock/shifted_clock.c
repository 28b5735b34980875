/* SPDX-License-Identifier: PostgreSQL
 *
 * shifted_clock.c
 *	  A wall clock that a test can set: preloaded into a server (LD_PRELOAD).
 *
 * SHIFTED_CLOCK_FILE names a file of 8 bytes, the shift in seconds (int64, this
 * machine's byte order); changing it shifts the clock of every process at once.
 * The monotonic clock goes on.  libfaketime does not do here: the postmaster of
 * PostgreSQL 15 forks background workers in a signal handler that interrupts
 * select(), and those never see its time.
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *shift;

__attribute__((constructor)) static void
map_shift(void)
{
	const char *path = getenv("SHIFTED_CLOCK_FILE");
	int			fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	void	   *mapped;

	if (fd < 0)
		abort();
	mapped = mmap(NULL, sizeof(*shift), PROT_READ, MAP_SHARED, fd, 0);
	close(fd);
	if (mapped == MAP_FAILED)
		abort();
	shift = mapped;
}

int
clock_gettime(clockid_t clock, struct timespec *now)
{
	int status = (int) syscall(SYS_clock_gettime, clock, now);

	if (status == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) && shift != NULL)
		now->tv_sec += *shift;
	return status;
}

int
gettimeofday(struct timeval *restrict now, void *restrict zone)
{
	struct timespec exact;

	(void) zone;
	clock_gettime(CLOCK_REALTIME, &exact);
	now->tv_sec = exact.tv_sec;
	now->tv_usec = exact.tv_nsec / 1000;
	return 0;
}

time_t
time(time_t *seconds)
{
	struct timespec exact;

	clock_gettime(CLOCK_REALTIME, &exact);
	if (seconds != NULL)
		*seconds = exact.tv_sec;
	return exact.tv_sec;
}
