/* table: sessions are found by id and expire in order of last use, each by its own timeout. */
#include "master/broker/table.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>

static struct session_record record(uint32_t number, uint32_t idle_timeout)
{
	struct session_record r = {.version = 1, .idle_timeout = idle_timeout, .route = "/mcp"};

	memcpy(r.id.bytes, &number, sizeof(number));
	return r;
}

static struct session *add(struct table *t, uint32_t number, uint32_t idle_timeout, double now)
{
	struct session_record r = record(number, idle_timeout);
	struct session *s = NULL;

	cr_assert_eq(table_add(t, &r, now, &s), 0);
	return s;
}

Test(table, finds_by_id_and_refuses_a_second_of_the_same)
{
	struct table t;
	struct session_record r = record(7, 60);
	struct session *s, *again;

	table_init(&t);
	s = add(&t, 7, 60, 0);
	cr_assert_eq(table_find(&t, &r.id), s);
	cr_assert_eq(table_add(&t, &r, 1, &again), -EEXIST);
	cr_assert_eq(again, s);
	cr_assert_eq(table_count(&t), 1);
	table_remove(&t, s);
	cr_assert_null(table_find(&t, &r.id));
	cr_assert_eq(t.bytes, 0);
	table_close(&t);
}

Test(table, expires_by_last_use_and_own_timeout)
{
	struct table t;

	table_init(&t);
	struct session *slow = add(&t, 1, 320, 0);
	struct session *a = add(&t, 2, 32, 0);
	struct session *b = add(&t, 3, 32, 1);
	/* And as long as a use may have gone untold. */
	cr_assert_null(table_expired(&t, 33.9));
	table_touch(a, 5);
	cr_assert_null(table_expired(&t, 34.9));
	cr_assert_eq(table_expired(&t, 35), b);
	table_remove(&t, b);
	cr_assert_null(table_expired(&t, 38.9));
	cr_assert_eq(table_expired(&t, 39), a);
	table_remove(&t, a);
	cr_assert_null(table_expired(&t, 339));
	cr_assert_eq(table_expired(&t, 340), slow);
	table_close(&t);
}

Test(table, an_idle_session_costs_well_under_a_kibibyte)
{
	struct table t;

	table_init(&t);
	struct session *s = add(&t, 1, 100, 0);
	cr_assert_lt(sizeof(*s) + s->length, 256);
	table_close(&t);
}
