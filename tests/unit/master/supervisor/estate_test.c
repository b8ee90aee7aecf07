/* estate: what another master hands over is refused unless it is what it is said to be. */
#include "master/supervisor/estate.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/ipc/state.h"
#include "master/supervisor/inventory.h"
#include "master/supervisor/supervisor.h"
#include "master/supervisor/upgrade.h"

static struct supervisor s;
static char directory[] = "/tmp/margay-estate-XXXXXX";
static const struct config config;
static char why[160];

static void start(void)
{
	static const struct log_options nowhere = {
	    .level = LOG_LEVEL_ERROR, .format = LOG_FORMAT_JSON, .file = "/dev/null"};

	cr_assert_not_null(mkdtemp(directory));
	s.runtime_dir = directory;
	s.owns = true;
	s.broker_listener = s.keeper_listener = s.children_file = s.pid_file = -1;
	memset(s.journal, -1, sizeof(s.journal));
	cr_assert_eq(log_open(&nowhere, "master", &s.log), 0);
}

static void finish(void)
{
	manifest_close(&s.heritage.manifest);
	estate_close(&s);
	log_close(s.log);
	rmdir(directory);
}

TestSuite(heritage, .init = start, .fini = finish);

static void hand_over(enum manifest_kind kind, const char *body, unsigned count)
{
	int fds[JOURNAL_COUNT];

	for (unsigned i = 0; i < count; i++)
		fds[i] = open("/dev/null", O_RDWR | O_CLOEXEC);
	cr_assert_eq(manifest_put(&s.heritage.manifest, kind, 0, span_of(body), fds, count), 0);
	manifest_find(&s.heritage.manifest, kind, 0)->owned = true;
}

Test(heritage, is_made_where_nothing_is_handed_over)
{
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), 0, "%s", why);
	cr_assert_geq(s.broker_listener, 0);
	cr_assert_not(s.metrics_are_inherited);
}

/* It would be lost: a later binary knows why it is there. */
Test(heritage, a_kind_that_nobody_knows_is_refused)
{
	hand_over(MANIFEST_KIND_COUNT, "", 0);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), -EINVAL);
	cr_assert_not_null(strstr(why, "unknown kind"), "%s", why);
}

Test(heritage, a_device_is_no_journal)
{
	hand_over(MANIFEST_JOURNAL, "", JOURNAL_COUNT);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), -EINVAL);
	cr_assert_str_eq(why, "the session journal");
}

Test(heritage, half_a_journal_is_none)
{
	hand_over(MANIFEST_JOURNAL, "", 1);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), -EINVAL);
}

Test(heritage, a_short_key_is_refused)
{
	hand_over(MANIFEST_SESSION_KEY, "short", 0);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), -EINVAL);
	cr_assert_str_eq(why, "the key of session ids");
}

Test(heritage, what_does_not_listen_is_no_listener)
{
	hand_over(MANIFEST_LISTENER, "127.0.0.1:1", 1);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), -EINVAL);
	cr_assert_str_eq(why, "the listeners of 127.0.0.1:1");
}

/* Counters start from zero: no reason not to serve. */
Test(heritage, metrics_that_are_none_are_made_anew)
{
	hand_over(MANIFEST_METRICS, "", 1);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), 0, "%s", why);
	cr_assert_not(s.metrics_are_inherited);
}

/* A listener of an address that no generation serves would be bound for ever, and never accept. */
Test(heritage, listeners_that_nobody_claims_are_refused)
{
	const struct master_record state = {.pid = 1, .last_generation = 7};
	struct upgrade upgrade = {.supervisor = &s};
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	cr_assert_eq(bind(fd, (struct sockaddr *)&in, sizeof(in)), 0);
	cr_assert_eq(listen(fd, 1), 0);
	cr_assert_eq(
	    manifest_put(&s.heritage.manifest, MANIFEST_LISTENER, 1, span_of("127.0.0.1"), &fd, 1),
	    0);
	cr_assert_eq(manifest_put(&s.heritage.manifest, MANIFEST_STATE, 0,
			 (struct span){(const char *)&state, sizeof(state)}, NULL, 0),
	    0);
	cr_assert_eq(estate_open(&s, &config, why, sizeof(why)), 0, "%s", why);
	s.upgrade = &upgrade;
	cr_assert_eq(inherit_all(&s, why, sizeof(why)), -EINVAL);
	s.upgrade = NULL;
	cr_assert_not_null(strstr(why, "belong to no generation"), "%s", why);
}
