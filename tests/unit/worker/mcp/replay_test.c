/* replay: the ids of events, which come back from outside, and what travels between workers. */
#include "worker/mcp/replay.h"

#include <criterion/criterion.h>

#define BOX "00112233445566778899aabbccddeeff"

Test(replay, ids_come_back_as_they_went)
{
	struct mail_box_id box, back;
	char text[REPLAY_ID_MAX];
	uint32_t number;

	for (unsigned i = 0; i < sizeof(box.bytes); i++)
		box.bytes[i] = (uint8_t)(i * 17);
	replay_id_format(&box, UINT32_MAX, text);
	cr_assert_str_eq(text, BOX "-4294967295");
	cr_assert(replay_id_parse(span_of(text), &back, &number));
	cr_expect_eq(memcmp(&box, &back, sizeof(box)), 0);
	cr_expect_eq(number, UINT32_MAX);
}

Test(replay, others_are_none)
{
	static const char *const rows[] = {"", "1", BOX, BOX "-", BOX "-x", BOX "-1x", BOX "+1",
	    BOX "-4294967296", BOX "-99999999999", "0" BOX "-1",
	    "0011223344556677 899aabbccddeeff-1", "00112233445566778899AABBCCDDEEFF-1",
	    "00000000000000000000000000000000-1"};
	struct mail_box_id box;
	uint32_t number;

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		cr_expect_not(replay_id_parse(span_of(rows[i]), &box, &number), "%s", rows[i]);
}

Test(replay, events_that_are_cut_are_none)
{
	static const char mail[] = "\1\7\0\0\0{}";
	struct replay_event e;

	cr_assert(replay_event_get((struct span){mail, 7}, &e));
	cr_expect(e.last);
	cr_expect_eq(e.number, 7);
	cr_expect(span_equal(e.message, SPAN("{}")));
	for (size_t n = 0; n < 5; n++)
		cr_expect_not(replay_event_get((struct span){mail, n}, &e));
}
