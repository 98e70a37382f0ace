// SPDX-License-Identifier: Apache-2.0
/*
 * Sends requests at a constant rate over a fixed number of connections and measures each answer from the moment its
 * request was due, not from when it could be sent: a server that stalls is charged for everybody who waited
 * (what wrk2 calls the correction of coordinated omission).
 *
 *     steady ADDRESS PORT RATE SECONDS CONNECTIONS BURST spin|sleep
 *
 * It says "connected" once every connection is open and has had a first answer, and waits for a line; then it sends,
 * prints one line of JSON, and keeps the connections open until its standard input ends. So what a connection costs once
 * can be left out of what is measured.
 *
 * Requests are due in bursts of BURST (1: evenly), RATE a second in the mean. Request i belongs to connection
 * i % CONNECTIONS. Between two bursts the program spins on the sockets, which costs a processor and measures best, or
 * sleeps, which on a virtual machine costs a trap per timer and adds the time of waking up to what it measures. Every
 * answer must be as long as the first and begin with the same status line; anything else ends the program with status 1.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SECOND_NS 1000000000ull
#define PATIENCE_NS (10 * SECOND_NS)
#define EVENTS 512

static const char request[] = "GET /steady HTTP/1.1\r\nHost: localhost\r\nUser-Agent: steady/1\r\n\r\n";
static const char expected[] = "HTTP/1.1 200 ";

struct connection {
	int fd;
	int busy;
	uint64_t turn;		/* the request in flight, or the next one of this connection */
	size_t received;	/* bytes of the current answer */
};

static struct connection *connections;
static uint64_t count, total, rate, burst, begun_ns;
static int spin;
static size_t answer_size;
static uint32_t *latencies;
static uint64_t answered;

static void fail(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fprintf(stderr, "steady: ");
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * SECOND_NS + time.tv_nsec;
}

static uint64_t due_ns(uint64_t number)
{
	number -= number % burst;
	/* In two steps: number * SECOND_NS overflows after a few hours of requests. */
	return begun_ns + number / rate * SECOND_NS + number % rate * SECOND_NS / rate;
}

static void send_request(struct connection *connection)
{
	ssize_t sent = send(connection->fd, request, sizeof(request) - 1, MSG_NOSIGNAL);

	if (sent != sizeof(request) - 1)
		fail("send: %zd of %zu bytes: %s", sent, sizeof(request) - 1, strerror(errno));
	connection->busy = 1;
	connection->received = 0;
}

static int connect_to(const struct sockaddr_in *address)
{
	int one = 1, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0)
		fail("socket: %s (ulimit -n?)", strerror(errno));
	if (connect(fd, (const struct sockaddr *)address, sizeof(*address)))
		fail("connect: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	return fd;
}

/* A first request on a connection, to learn how long an answer is. */
static size_t learn(int fd)
{
	char buffer[65536];
	size_t size = 0;
	char *body, *length;

	if (send(fd, request, sizeof(request) - 1, MSG_NOSIGNAL) != sizeof(request) - 1)
		fail("send: %s", strerror(errno));
	for (;;) {
		ssize_t received = recv(fd, buffer + size, sizeof(buffer) - 1 - size, 0);

		if (received <= 0)
			fail("the server closed before its first answer was whole");
		size += received;
		buffer[size] = 0;
		body = strstr(buffer, "\r\n\r\n");
		if (!body)
			continue;
		length = strcasestr(buffer, "\r\nContent-Length:");
		if (!length || strncmp(buffer, expected, sizeof(expected) - 1))
			fail("the first answer is no 200 with a Content-Length:\n%s", buffer);
		if (size == (size_t)(body + 4 - buffer) + strtoul(length + 17, NULL, 10))
			return size;
	}
}

static void take_answer(struct connection *connection, uint64_t dispatched)
{
	char buffer[65536];
	ssize_t received = recv(connection->fd, buffer, sizeof(buffer), MSG_DONTWAIT);
	uint64_t latency;

	if (received < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (received <= 0)
		fail("the server closed a connection after %lu answers: %s", answered, strerror(errno));
	if (connection->received == 0 &&
	    (received < (ssize_t)sizeof(expected) || memcmp(buffer, expected, sizeof(expected) - 1)))
		fail("an answer that is not 200: %.*s", (int)received, buffer);
	connection->received += received;
	if (!connection->busy || connection->received > answer_size)
		fail("an answer longer than the first: %zu, not %zu bytes", connection->received, answer_size);
	if (connection->received < answer_size)
		return;
	latency = now_ns() - due_ns(connection->turn);
	latencies[answered++] = latency > UINT32_MAX ? UINT32_MAX : latency;
	connection->busy = 0;
	connection->turn += count;
	if (connection->turn < dispatched)
		send_request(connection);
}

static int compare(const void *left, const void *right)
{
	uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;

	return (a > b) - (a < b);
}

static double quantile_us(double part)
{
	uint64_t index = part * answered;

	return latencies[index < answered ? index : answered - 1] / 1000.0;
}

static void run(int poll_fd)
{
	struct epoll_event events[EVENTS];
	uint64_t dispatched = 0, heard_ns;

	begun_ns = heard_ns = now_ns() + SECOND_NS / 100;
	while (answered < total) {
		uint64_t now = now_ns(), wait_ns = SECOND_NS;
		struct timespec timeout;
		int ready;

		for (; dispatched < total && due_ns(dispatched) <= now; dispatched++) {
			struct connection *connection = &connections[dispatched % count];

			if (!connection->busy && connection->turn == dispatched)
				send_request(connection);
		}
		now = now_ns();
		if (spin)
			wait_ns = 0;
		else if (dispatched < total)
			wait_ns = due_ns(dispatched) > now ? due_ns(dispatched) - now : 0;
		timeout.tv_sec = wait_ns / SECOND_NS;
		timeout.tv_nsec = wait_ns % SECOND_NS;
		ready = epoll_pwait2(poll_fd, events, EVENTS, &timeout, NULL);
		if (ready < 0 && errno != EINTR)
			fail("epoll_pwait2: %s", strerror(errno));
		for (int i = 0; i < ready; i++)
			take_answer(events[i].data.ptr, dispatched);
		now = now_ns();
		if (ready > 0)
			heard_ns = now;
		else if (now > heard_ns && now - heard_ns > PATIENCE_NS && answered < dispatched)
			fail("%lu answers of %lu, and none for 10 s", answered, dispatched);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET };
	struct rusage usage;
	uint64_t ended_ns;
	size_t size;
	double cpu;
	int poll_fd;

	if (argc != 8 || inet_pton(AF_INET, argv[1], &address.sin_addr) != 1)
		fail("usage: steady ADDRESS PORT RATE SECONDS CONNECTIONS BURST spin|sleep");
	address.sin_port = htons(atoi(argv[2]));
	rate = strtoull(argv[3], NULL, 10);
	total = rate * strtod(argv[4], NULL);
	count = strtoull(argv[5], NULL, 10);
	burst = strtoull(argv[6], NULL, 10);
	spin = !strcmp(argv[7], "spin");
	if (!rate || !total || !count || !burst)
		fail("rate, seconds, connections and burst must be positive");
	connections = calloc(count, sizeof(*connections));
	latencies = calloc(total, sizeof(*latencies));
	poll_fd = epoll_create1(0);
	if (!connections || !latencies || poll_fd < 0)
		fail("no memory");
	prctl(PR_SET_TIMERSLACK, 1);
	for (uint64_t i = 0; i < count; i++) {
		struct epoll_event event = { .events = EPOLLIN, .data.ptr = &connections[i] };

		connections[i].fd = connect_to(&address);
		connections[i].turn = i;
		size = learn(connections[i].fd);
		if (i && size != answer_size)
			fail("answers differ in length: %zu and %zu bytes", answer_size, size);
		answer_size = size;
		if (epoll_ctl(poll_fd, EPOLL_CTL_ADD, connections[i].fd, &event))
			fail("epoll_ctl: %s", strerror(errno));
	}
	puts("connected");
	fflush(stdout);
	if (getchar() == EOF)
		return 1;
	run(poll_fd);
	ended_ns = now_ns();
	getrusage(RUSAGE_SELF, &usage);
	cpu = usage.ru_utime.tv_sec + usage.ru_stime.tv_sec + (usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
	qsort(latencies, answered, sizeof(*latencies), compare);
	/* The first answers are requests too, but were not timed. */
	printf("{\"requests\": %lu, \"first\": %lu, \"seconds\": %.6f, \"cpu_seconds\": %.6f, \"p50_us\": %.3f, \"p90_us\": %.3f, "
	       "\"p99_us\": %.3f, \"p999_us\": %.3f, \"max_us\": %.3f}\n",
	       answered + count, count, (ended_ns - begun_ns) / 1e9, cpu, quantile_us(0.5), quantile_us(0.9), quantile_us(0.99),
	       quantile_us(0.999), quantile_us(1));
	fflush(stdout);
	while (getchar() != EOF)
		;
	return 0;
}
