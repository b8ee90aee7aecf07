/* broker_proto: session records survive the wire; what is no record is refused. */
#include "common/ipc/broker_proto.h"

#include <criterion/criterion.h>
#include <string.h>

static size_t put(const struct session_record *record, char *bytes, size_t capacity, bool *error)
{
	struct wire_writer w = {.p = bytes, .capacity = capacity};

	session_record_put(&w, record);
	*error = w.error;
	return w.length;
}

static bool get(const char *bytes, size_t n, struct session_record *out)
{
	struct wire_reader r = {.p = bytes, .length = n};

	return session_record_get(&r, out) && wire_complete(&r);
}

static struct session_record longest(void)
{
	struct session_record record = {.version = 3, .idle_timeout = UINT32_MAX};

	memset(record.id.bytes, 0xa5, sizeof(record.id.bytes));
	memset(record.route, 'r', sizeof(record.route) - 1);
	memset(record.upstream, 'u', sizeof(record.upstream) - 1);
	memset(record.upstream_session, 's', sizeof(record.upstream_session) - 1);
	return record;
}

Test(broker_proto, the_longest_record_comes_back_whole)
{
	struct session_record record = longest(), back;
	char bytes[2048];
	bool error;
	size_t n = put(&record, bytes, sizeof(bytes), &error);

	cr_assert(!error);
	cr_assert(get(bytes, n, &back));
	cr_assert(memcmp(back.id.bytes, record.id.bytes, SESSION_ID_BYTES) == 0);
	cr_assert(back.version == 3 && back.idle_timeout == UINT32_MAX);
	cr_assert_str_eq(back.route, record.route);
	cr_assert_str_eq(back.upstream, record.upstream);
	cr_assert_str_eq(back.upstream_session, record.upstream_session);
	for (size_t i = 0; i < n; i++)
		cr_assert(!get(bytes, i, &back));
}

Test(broker_proto, strings_with_nul_or_without_room_for_it_are_refused)
{
	struct session_record back;
	char bytes[2048], text[SESSION_NAME_MAX];

	memset(text, 'x', sizeof(text));
	for (int nul = 0; nul < 2; nul++) {
		struct wire_writer w = {.p = bytes, .capacity = sizeof(bytes)};
		wire_put_bytes(&w, (char[SESSION_ID_BYTES]){0}, SESSION_ID_BYTES);
		wire_put_u8(&w, 1);
		wire_put_u32(&w, 1);
		wire_put_string(&w, nul ? SPAN("a\0b") : (struct span){text, sizeof(text)});
		wire_put_string(&w, SPAN("u"));
		wire_put_string(&w, SPAN(""));
		cr_assert(!w.error);
		cr_assert(!get(bytes, w.length, &back));
	}
}
