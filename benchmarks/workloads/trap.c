/* What a uprobe with nothing behind it costs: calls of functions of its own, without and with a counter on their entry,
 * then on their return. Prints nanoseconds a call as JSON. Needs root.
 *
 * The kernel emulates a first instruction that pushes a register. Most others it has the processor step over, which is a
 * second trap: SSL_read and SSL_write of Debian's OpenSSL 3 begin with such a one.
 */
#define _GNU_SOURCE
#include <linux/perf_event.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define CALLS 20000
#define PMU "/sys/bus/event_source/devices/uprobe/"

__attribute__((naked, noinline)) static void emulated(void)
{
	__asm__("push %rbp; pop %rbp; ret");
}

__attribute__((naked, noinline)) static void stepped(void)
{
	__asm__("sub $8, %rsp; add $8, %rsp; ret");
}

static double nanoseconds_a_call(void (*probed)(void))
{
	struct timespec begin, end;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	for (int i = 0; i < CALLS; i++)
		probed();
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &end);
	return ((end.tv_sec - begin.tv_sec) * 1e9 + (end.tv_nsec - begin.tv_nsec)) / CALLS;
}

static unsigned read_number(const char *path, const char *format)
{
	FILE *file = fopen(path, "r");
	unsigned number;

	if (!file || fscanf(file, format, &number) != 1) {
		fprintf(stderr, "cannot read %s\n", path);
		exit(1);
	}
	fclose(file);
	return number;
}

/* Where in its file the function stands. */
static uint64_t offset_of(uint64_t address)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long begin, end, offset;
	char line[512];

	while (maps && fgets(line, sizeof(line), maps))
		if (sscanf(line, "%lx-%lx %*s %lx", &begin, &end, &offset) == 3 && begin <= address && address < end)
			return address - begin + offset;
	fprintf(stderr, "this program's code is not in /proc/self/maps\n");
	exit(1);
}

/* What it adds to a call. A return can be probed only by way of the entry. */
static double added_by_probe(void (*probed)(void), int at_return)
{
	double alone = nanoseconds_a_call(probed);
	struct perf_event_attr attributes;
	uint64_t count;
	double with;
	int event;

	memset(&attributes, 0, sizeof(attributes));
	attributes.size = sizeof(attributes);
	attributes.type = read_number(PMU "type", "%u");
	attributes.config = (uint64_t)at_return << read_number(PMU "format/retprobe", "config:%u");
	attributes.config1 = (uint64_t)(uintptr_t)"/proc/self/exe";
	attributes.config2 = offset_of((uint64_t)(uintptr_t)probed);
	event = syscall(SYS_perf_event_open, &attributes, 0, -1, -1, 0);
	if (event < 0) {
		perror("perf_event_open of a uprobe");
		exit(1);
	}
	with = nanoseconds_a_call(probed);
	if (read(event, &count, sizeof(count)) != sizeof(count) || count != CALLS) {
		fprintf(stderr, "%llu hits of %d calls\n", (unsigned long long)count, CALLS);
		exit(1);
	}
	close(event);
	return with - alone;
}

int main(void)
{
	double emulated_entry = added_by_probe(emulated, 0), emulated_return = added_by_probe(emulated, 1);
	double entry = added_by_probe(stepped, 0);

	printf("{\"emulated_entry\": %.1f, \"emulated_both\": %.1f, ", emulated_entry, emulated_return);
	printf("\"stepped_entry\": %.1f, \"stepped_both\": %.1f}\n", entry, added_by_probe(stepped, 1));
	return 0;
}
