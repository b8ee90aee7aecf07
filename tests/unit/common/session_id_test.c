/* session_id: only what this key made is accepted. */
#include "common/session_id.h"

#include <criterion/criterion.h>
#include <string.h>

static const uint8_t key[SESSION_KEY_SIZE] = {1, 2, 3};
static const uint8_t other[SESSION_KEY_SIZE] = {1, 2, 3, [SESSION_KEY_SIZE - 1] = 1};

Test(session_id, comes_back_and_holds_node_and_epoch)
{
	struct session_id id, back;
	char text[SESSION_ID_TEXT + 1];

	for (int i = 0; i < 1000; i++) {
		cr_assert_eq(session_id_create(0x1234, 0x56, &id), 0);
		session_id_format(&id, key, text);
		cr_assert_eq(strlen(text), SESSION_ID_TEXT);
		cr_assert(session_id_parse(span_of(text), key, &back));
		cr_assert_eq(memcmp(&id, &back, sizeof(id)), 0);
		cr_assert(memcmp(back.bytes, "\x12\x34\x56", 3) == 0);
		cr_assert(!session_id_parse(span_of(text), other, &back));
	}
}

Test(session_id, is_shortened_to_its_beginning)
{
	struct session_id id;
	char text[SESSION_ID_TEXT + 1], beginning[SESSION_ID_SHORT + 1];

	cr_assert_eq(session_id_create(7, 9, &id), 0);
	session_id_format(&id, key, text);
	session_id_shorten(&id, beginning);
	cr_assert_eq(strlen(beginning), SESSION_ID_SHORT);
	cr_assert_eq(strncmp(beginning, text, SESSION_ID_SHORT), 0);
}

Test(session_id, two_ids_differ)
{
	struct session_id a, b;

	cr_assert_eq(session_id_create(0, 0, &a), 0);
	cr_assert_eq(session_id_create(0, 0, &b), 0);
	cr_assert_neq(memcmp(&a, &b, sizeof(a)), 0);
}

Test(session_id, every_other_character_at_every_place_is_refused)
{
	struct session_id id, back;
	char text[SESSION_ID_TEXT + 1];

	cr_assert_eq(session_id_create(1, 1, &id), 0);
	session_id_format(&id, key, text);
	for (size_t i = 0; i < SESSION_ID_TEXT; i++) {
		char kept = text[i];
		for (int c = 0; c < 256; c++) {
			text[i] = (char)c;
			bool same = text[i] == kept;
			cr_assert_eq(
			    session_id_parse((struct span){text, SESSION_ID_TEXT}, key, &back),
			    same);
		}
		text[i] = kept;
	}
}

Test(session_id, wrong_lengths_are_refused)
{
	struct session_id id, back;
	char text[SESSION_ID_TEXT + 2] = {0};

	cr_assert_eq(session_id_create(1, 1, &id), 0);
	session_id_format(&id, key, text);
	for (size_t n = 0; n < SESSION_ID_TEXT; n++)
		cr_assert(!session_id_parse((struct span){text, n}, key, &back));
	text[SESSION_ID_TEXT] = '=';
	cr_assert(!session_id_parse((struct span){text, SESSION_ID_TEXT + 1}, key, &back));
}
