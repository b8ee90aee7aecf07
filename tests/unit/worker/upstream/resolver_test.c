/* resolver: literals and localhost at once, failures, and calls that were given up. */
#include "worker/upstream/resolver.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <errno.h>
#include <netinet/in.h>

#include "tests/unit/worker/stage.h"

struct asker {
	struct resolver_query query;
	bool done;
	int status;
	unsigned count;
};

static void on_done(struct resolver_query *query, int status, const struct resolved *addresses)
{
	struct asker *a = container_of(query, struct asker, query);

	a->done = true;
	a->status = status;
	a->count = addresses ? addresses->count : 0;
}

Test(resolver, literals_need_no_look_up)
{
	static const struct {
		const char *host;
		int family;
	} rows[] = {{"127.0.0.1", AF_INET}, {"::1", AF_INET6}, {"2001:db8::7", AF_INET6}};
	struct stage s;

	stage_open(&s);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct asker a = {.query.done = on_done};
		struct resolved now;
		cr_assert_eq(
		    resolver_lookup(s.worker->resolver, rows[i].host, 8080, &a.query, &now), 1);
		cr_assert_eq(now.count, 1);
		cr_assert_eq(now.addresses[0].ss_family, rows[i].family);
		const struct sockaddr_in *in =
		    (const struct sockaddr_in *)(const void *)&now.addresses[0];
		cr_assert_eq(
		    ntohs(in->sin_port), 8080, "the port is at the same place in both families");
		cr_assert_not(a.done);
	}
	stage_close(&s);
}

/* A name, answered at once or later. */
static int resolve(struct stage *s, const char *host, struct resolved *now, struct asker *a)
{
	*a = (struct asker){.query.done = on_done};
	int status = resolver_lookup(s->worker->resolver, host, 80, &a->query, now);
	if (status != 0)
		return status;
	stage_until(s, &a->done);
	return a->status == 0 ? 1 : a->status;
}

Test(resolver, localhost_needs_no_look_up)
{
	struct stage s;
	struct asker a = {.query.done = on_done};
	struct resolved now;

	stage_open(&s);
	cr_assert_eq(resolver_lookup(s.worker->resolver, "LocalHost", 80, &a.query, &now), 1);
	cr_assert_eq(now.count, 2);
	cr_assert_eq(now.addresses[0].ss_family, AF_INET);
	cr_assert_eq(now.addresses[1].ss_family, AF_INET6);
	stage_close(&s);
}

Test(resolver, a_name_that_cannot_be_is_an_error)
{
	struct stage s;
	struct asker a;
	struct resolved now;

	stage_open(&s);
	cr_assert_eq(resolve(&s, "not..a..name", &now, &a), -EHOSTUNREACH);
	stage_close(&s);
}

Test(resolver, a_cancelled_query_is_never_answered)
{
	struct stage s;
	struct asker a = {.query.done = on_done};
	struct resolved now;

	stage_open(&s);
	if (resolver_lookup(s.worker->resolver, "margay.invalid", 80, &a.query, &now) == 0) {
		cr_assert(a.query.pending);
		resolver_cancel(s.worker->resolver, &a.query);
		cr_assert_not(a.query.pending);
	}
	resolver_cancel(s.worker->resolver, &a.query);
	for (int i = 0; i < 20; i++)
		ev_run(s.worker->loop, EVRUN_NOWAIT);
	cr_assert_not(a.done);
	stage_close(&s);
}
