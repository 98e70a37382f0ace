// SPDX-License-Identifier: Apache-2.0
/*
 * An OTLP/HTTP backend that keeps nothing and counts everything, cheap enough to stand beside what is measured.
 *
 *     sink PORT
 *
 * POST /v1/metrics: taken, and not looked at. POST (any other path): an ExportTraceServiceRequest as protobuf; its spans
 * are counted by kind. Answered with 200 and an empty ExportTraceServiceResponse, or 400 where the bytes are not that
 * message. GET: the counts as JSON. A thread per connection; nothing that is compressed is understood.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HEAD_BYTES 65536
#define BODY_BYTES (1ull << 28)
#define KINDS 6			/* opentelemetry/proto/trace/v1/trace.proto, Span.SpanKind */

static _Atomic uint64_t requests, bytes, refused, spans[KINDS];

struct reader {
	const uint8_t *at, *end;
};

static bool read_varint(struct reader *reader, uint64_t *value)
{
	*value = 0;
	for (int shift = 0; shift < 64 && reader->at < reader->end; shift += 7) {
		uint8_t byte = *reader->at++;

		*value |= (uint64_t)(byte & 0x7f) << shift;
		if (!(byte & 0x80))
			return true;
	}
	return false;
}

/* The next field; for length-delimited ones `inside` is their content, else `value` what they hold. */
static bool read_field(struct reader *reader, uint32_t *number, uint64_t *value, struct reader *inside)
{
	uint64_t key, size;

	*inside = (struct reader){ 0 };
	*value = 0;
	if (!read_varint(reader, &key))
		return false;
	*number = key >> 3;
	switch (key & 7) {
	case 0:
		return read_varint(reader, value);
	case 1:
		size = 8;
		break;
	case 2:
		if (!read_varint(reader, &size))
			return false;
		break;
	case 5:
		size = 4;
		break;
	default:
		return false;
	}
	if (size > (uint64_t)(reader->end - reader->at))
		return false;
	inside->at = reader->at;
	reader->at += size;
	inside->end = reader->at;
	return true;
}

/* depth 0: ExportTraceServiceRequest.resource_spans = 1; 1: .scope_spans = 2; 2: .spans = 2; 3: Span.kind = 6 */
static bool walk(struct reader reader, int depth, uint64_t found[KINDS])
{
	static const uint32_t wanted[] = { 1, 2, 2, 6 };
	uint64_t value, kind = 0;
	struct reader inside;
	uint32_t number;

	while (reader.at < reader.end) {
		if (!read_field(&reader, &number, &value, &inside))
			return false;
		if (number != wanted[depth])
			continue;
		if (depth == 3)
			kind = value;
		else if (!inside.at || !walk(inside, depth + 1, found))
			return false;
	}
	if (depth == 3)
		found[kind < KINDS ? kind : 0]++;
	return true;
}

static bool write_all(int fd, const char *data, size_t size)
{
	while (size) {
		ssize_t written = send(fd, data, size, MSG_NOSIGNAL);

		if (written <= 0)
			return false;
		data += written;
		size -= written;
	}
	return true;
}

static bool answer(int fd, const char *status, const char *type, const char *body)
{
	char text[1024];
	int size = snprintf(text, sizeof(text), "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n\r\n%s",
			    status, type, strlen(body), body);

	return write_all(fd, text, size);
}

static bool answer_counts(int fd)
{
	char text[512];

	snprintf(text, sizeof(text),
		 "{\"requests\": %lu, \"bytes\": %lu, \"refused\": %lu, \"server\": %lu, \"client\": %lu, "
		 "\"internal\": %lu, \"other\": %lu}",
		 requests, bytes, refused, spans[2], spans[3], spans[1], spans[0] + spans[4] + spans[5]);
	return answer(fd, "200 OK", "application/json", text);
}

static bool take_export(int fd, const uint8_t *body, size_t size)
{
	uint64_t found[KINDS] = { 0 };

	if (!walk((struct reader){ body, body + size }, 0, found)) {
		refused++;
		return answer(fd, "400 Bad Request", "text/plain", "not an ExportTraceServiceRequest\n");
	}
	for (int i = 0; i < KINDS; i++)
		spans[i] += found[i];
	requests++;
	bytes += size;
	return answer(fd, "200 OK", "application/x-protobuf", "");
}

/* Bytes of a connection: received, not yet taken. */
struct input {
	int fd;
	size_t begin, end;
	char bytes[HEAD_BYTES];
};

/* A request's body; grows, and serves again. */
struct body {
	uint8_t *bytes;
	size_t size, room;
};

static bool receive(struct input *input)
{
	ssize_t received;

	if (input->begin) {
		memmove(input->bytes, input->bytes + input->begin, input->end - input->begin);
		input->end -= input->begin;
		input->begin = 0;
	}
	if (input->end == sizeof(input->bytes))
		return false;
	received = recv(input->fd, input->bytes + input->end, sizeof(input->bytes) - input->end, 0);
	if (received <= 0)
		return false;
	input->end += received;
	return true;
}

/* Everything up to and with `mark`, which becomes the end of a string; NULL where the peer ends before. */
static char *take_until(struct input *input, const char *mark)
{
	char *found, *text;

	while (!(found = memmem(input->bytes + input->begin, input->end - input->begin, mark, strlen(mark))))
		if (!receive(input))
			return NULL;
	*found = 0;
	text = input->bytes + input->begin;
	input->begin = found + strlen(mark) - input->bytes;
	return text;
}

static bool take_body(struct input *input, struct body *body, uint64_t size)
{
	size_t held = input->end - input->begin;

	if (size > BODY_BYTES || body->size + size > BODY_BYTES)
		return false;
	if (body->size + size > body->room) {
		uint8_t *bytes = realloc(body->bytes, body->room = (body->size + size) * 2);

		if (!bytes)
			return false;
		body->bytes = bytes;
	}
	held = held < size ? held : size;
	memcpy(body->bytes + body->size, input->bytes + input->begin, held);
	input->begin += held;
	body->size += held;
	for (size -= held; size;) {
		ssize_t received = recv(input->fd, body->bytes + body->size, size, MSG_WAITALL);

		if (received <= 0)
			return false;
		body->size += received;
		size -= received;
	}
	return true;
}

/* RFC 9112 section 7.1 */
static bool take_chunks(struct input *input, struct body *body)
{
	for (;;) {
		char *line = take_until(input, "\r\n");
		uint64_t size = line ? strtoull(line, NULL, 16) : 0;

		if (!line)
			return false;
		if (!size)
			break;
		if (!take_body(input, body, size) || !take_until(input, "\r\n"))
			return false;
	}
	for (;;) {
		char *trailer = take_until(input, "\r\n");

		if (!trailer || !*trailer)
			return trailer;
	}
}

static bool serve_one(struct input *input, struct body *body)
{
	char *head = take_until(input, "\r\n\r\n"), *length;
	bool metrics;

	if (!head)
		return false;
	metrics = !strncmp(head, "POST /v1/metrics ", 17);
	if (!strncmp(head, "GET ", 4))
		return answer_counts(input->fd);
	length = strcasestr(head, "\r\nContent-Length:");
	body->size = 0;
	if (length ? !take_body(input, body, strtoull(length + 17, NULL, 10)) : !take_chunks(input, body))
		return false;
	if (metrics)
		return answer(input->fd, "200 OK", "application/x-protobuf", "");
	return take_export(input->fd, body->bytes, body->size);
}

static void *serve(void *argument)
{
	struct input *input = malloc(sizeof(*input));
	struct body body = { 0 };
	int fd = (intptr_t)argument;

	if (input) {
		input->fd = fd;
		input->begin = input->end = 0;
		while (serve_one(input, &body))
			;
	}
	free(body.bytes);
	free(input);
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, listening = socket(AF_INET, SOCK_STREAM, 0);

	if (argc != 2)
		return fprintf(stderr, "usage: sink PORT\n"), 2;
	address.sin_port = htons(atoi(argv[1]));
	setsockopt(listening, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listening, (struct sockaddr *)&address, sizeof(address)) || listen(listening, 128))
		return perror("sink"), 1;
	for (;;) {
		pthread_t thread;
		int fd = accept(listening, NULL, NULL);

		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			close(fd);
		else
			pthread_detach(thread);
	}
}
