/*
 * margay-bench-stdio: an MCP server on stdin and stdout that costs as little as one can, so that
 * what is measured with it is the gateway in front.
 *
 * Speaks 2025-11-25. Whatever lines one read brings are answered by one write. Ends with its input.
 *
 *   margay-bench-stdio [BYTES]    text of a tool's result, 200 by default
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/envelope.h"
#include "tests/load/numbers.h"

enum { DEPTH_MAX = 64, LINE_MAX_BYTES = 1 << 20, OUT_MAX = 64 << 20, TEXT_MAX = 1 << 20 };

struct server {
	struct buffer in, out;
	struct buffer call; /* the result of a call, the same for all */
};

#define INITIALIZED                                                            \
	"{\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"tools\":{}}," \
	"\"serverInfo\":{\"name\":\"margay-bench-stdio\",\"version\":\"1\"}}"
#define TOOLS "{\"tools\":[{\"name\":\"echo\",\"inputSchema\":{\"type\":\"object\"}}]}"

static int put(struct server *s, struct span text)
{
	return buffer_append(&s->out, text.p, text.n, OUT_MAX);
}

static int put_result(struct server *s, struct span id, struct span result)
{
	int error = put(s, SPAN("{\"jsonrpc\":\"2.0\",\"id\":"));

	if (!error)
		error = put(s, id);
	if (!error)
		error = put(s, SPAN(",\"result\":"));
	if (!error)
		error = put(s, result);
	return error ? error : put(s, SPAN("}\n"));
}

static int answer(struct server *s, struct span line)
{
	struct envelope message;
	struct envelope_fault fault;

	if (envelope_scan(line, DEPTH_MAX, &message, &fault) || message.kind != ENVELOPE_REQUEST)
		return 0;
	const struct {
		struct span method, result;
	} rows[] = {{SPAN("tools/call"), buffer_span(&s->call)},
	    {SPAN("initialize"), SPAN(INITIALIZED)}, {SPAN("tools/list"), SPAN(TOOLS)},
	    {SPAN("ping"), SPAN("{}")}};
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (span_equal(message.method, rows[i].method))
			return put_result(s, message.id, rows[i].result);
	}
	return buffer_printf(&s->out, OUT_MAX,
	    "{\"jsonrpc\":\"2.0\",\"id\":%.*s,\"error\":{\"code\":-32601,"
	    "\"message\":\"no such method\"}}\n",
	    (int)message.id.n, message.id.p);
}

static int answer_lines(struct server *s)
{
	for (;;) {
		struct span all = buffer_span(&s->in);
		const char *end = memchr(all.p, '\n', all.n);
		if (!end)
			return 0;
		size_t n = (size_t)(end - all.p);
		int error = answer(s, (struct span){all.p, n});
		if (error)
			return error;
		buffer_consume(&s->in, n + 1);
	}
}

static int write_all(struct buffer *out)
{
	while (buffer_length(out) > 0) {
		struct span rest = buffer_span(out);
		ssize_t n = write(STDOUT_FILENO, rest.p, rest.n);
		if (n < 0)
			return -errno;
		buffer_consume(out, (size_t)n);
	}
	return 0;
}

static int serve(struct server *s)
{
	for (;;) {
		int error = buffer_reserve(&s->in, 65536, LINE_MAX_BYTES);
		if (error)
			return error;
		ssize_t n =
		    read(STDIN_FILENO, s->in.data + s->in.tail, s->in.capacity - s->in.tail);
		if (n <= 0)
			return n < 0 ? -errno : 0;
		s->in.tail += (uint32_t)n;
		error = answer_lines(s);
		if (!error)
			error = write_all(&s->out);
		if (error)
			return error;
	}
}

static int prepare(struct server *s, unsigned bytes)
{
	int error =
	    buffer_printf(&s->call, OUT_MAX, "{\"content\":[{\"type\":\"text\",\"text\":\"");

	if (!error)
		error = buffer_reserve(&s->call, bytes, OUT_MAX);
	if (error)
		return error;
	memset(s->call.data + s->call.tail, 'x', bytes);
	s->call.tail += bytes;
	return buffer_printf(&s->call, OUT_MAX, "\"}]}");
}

int main(int argc, char **argv)
{
	struct server s = {0};
	unsigned bytes = 200;

	if (argc > 2 || (argc == 2 && number_parse(argv[1], 0, TEXT_MAX, &bytes))) {
		fputs("usage: margay-bench-stdio [BYTES]\n", stderr);
		return 2;
	}
	int error = prepare(&s, bytes);
	if (!error)
		error = serve(&s);
	if (error)
		fprintf(stderr, "margay-bench-stdio: %s\n", strerror(-error));
	buffer_release(&s.in);
	buffer_release(&s.out);
	buffer_release(&s.call);
	return error ? 1 : 0;
}
