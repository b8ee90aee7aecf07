/* endpoint: what an HTTP+SSE server may call its address, and what it may not. */
#include "worker/bridge/endpoint.h"

#include <criterion/criterion.h>

Test(endpoint, is_resolved_against_the_stream)
{
	static const struct {
		const char *stream, *data, *target;
	} rows[] = {
	    {"/sse", "/messages?sessionId=1", "/messages?sessionId=1"},
	    {"/sse", "messages", "/messages"},
	    {"/a/sse", "messages?x=1", "/a/messages?x=1"},
	    {"/a/sse?key=/b/", "messages", "/a/messages"},
	    {"/a/sse?key=1", "?session=2", "/a/sse?session=2"},
	    {"/sse", "http://up:3001/messages", "/messages"},
	    {"/sse", "HTTP://UP:3001/m", "/m"},
	    {"/sse", "http://up:3001", "/"},
	    {"/sse", "http://up:3001?x", "/?x"},
	    {"/sse", "/m#part", "/m"},
	    {"/sse", "http://up:3001.evil/m", NULL},
	    {"/sse", "http://up:30011/m", NULL},
	    {"/sse", "http://up:3001@evil/m", NULL},
	    {"/sse", "http://other:3001/m", NULL},
	    {"/sse", "https://up:3001/m", NULL},
	    {"/sse", "//up:3001/m", NULL},
	    {"/sse", "javascript:alert(1)", NULL},
	    {"/sse", "\\\\evil\\m", NULL},
	    {"/sse", "/m\r\nX: y", NULL},
	    {"/sse", "/m x", NULL},
	    {"/sse", "", NULL},
	    {"/sse", "#", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct config_upstream stream = {.target = (char *)(uintptr_t)rows[i].stream,
		    .authority = (char *)(uintptr_t) "up:3001"};
		struct buffer out = {0};
		const char *wrong = endpoint_resolve(&stream, span_of(rows[i].data), &out);
		cr_expect_eq(wrong == NULL, rows[i].target != NULL, "row %zu: %s", i, wrong);
		if (!wrong && rows[i].target)
			cr_expect_str_eq(buffer_span(&out).p, rows[i].target, "row %zu", i);
		buffer_release(&out);
	}
}
