/* journal: nothing confirmed is lost, nothing damaged is believed. */
#include "master/broker/journal.h"

#include <criterion/criterion.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int fds[JOURNAL_COUNT];

static void files_open(void)
{
	for (size_t i = 0; i < JOURNAL_COUNT; i++) {
		fds[i] = memfd_create("journal", MFD_CLOEXEC);
		cr_assert_geq(fds[i], 0);
	}
}

TestSuite(journal, .init = files_open);

static struct session_id id_of(uint32_t number)
{
	struct session_id id = {{0}};

	memcpy(id.bytes, &number, sizeof(number));
	return id;
}

static void create(struct journal *j, struct table *t, uint32_t number)
{
	struct session_record r = {
	    .id = id_of(number), .version = 1, .idle_timeout = 60, .route = "/mcp"};
	struct session *s;

	cr_assert_eq(table_add(t, &r, 0, &s), 0);
	cr_assert_eq(journal_create(j, s), 0);
}

static void end(struct journal *j, struct table *t, uint32_t number)
{
	struct session_id id = id_of(number);
	struct session *s = table_find(t, &id);

	cr_assert_not_null(s);
	cr_assert_eq(journal_end(j, s), 0);
	table_remove(t, s);
}

static void start(struct journal *j, struct table *t)
{
	table_init(t);
	cr_assert_eq(journal_open(j, fds, t, 5), 0);
}

static size_t file_size(int fd)
{
	struct stat status;

	cr_assert_eq(fstat(fd, &status), 0);
	return (size_t)status.st_size;
}

Test(journal, gives_back_what_was_created_and_not_ended)
{
	struct journal j;
	struct table t;
	struct session_id kept = id_of(1), ended = id_of(2);

	start(&j, &t);
	create(&j, &t, 1);
	create(&j, &t, 2);
	end(&j, &t, 2);
	table_close(&t);
	start(&j, &t);
	cr_assert_eq(table_count(&t), 1);
	cr_assert_null(table_find(&t, &ended));
	struct session *s = table_find(&t, &kept);
	cr_assert_not_null(s);
	cr_assert_eq(s->cached, UINT64_MAX);
	cr_assert(s->used >= 5);
	table_close(&t);
}

/* Three sessions, then the file cut or bent; the count of survivors is checked by the caller. */
static size_t survivors(const char *file, size_t n)
{
	struct journal j;
	struct table t;

	cr_assert_eq(ftruncate(fds[0], 0), 0);
	cr_assert_eq(pwrite(fds[0], file, n, 0), (ssize_t)n);
	start(&j, &t);
	size_t count = table_count(&t);
	/* What follows a repaired tail must be kept. */
	create(&j, &t, 99);
	table_close(&t);
	start(&j, &t);
	cr_assert_eq(table_count(&t), count + 1);
	table_close(&t);
	return count;
}

Test(journal, stops_at_a_cut_or_flipped_byte_wherever_it_is)
{
	struct journal j;
	struct table t;
	char file[1024];
	size_t ends[4];

	start(&j, &t);
	ends[0] = j.offset;
	for (uint32_t i = 1; i <= 3; i++) {
		create(&j, &t, i);
		ends[i] = j.offset;
	}
	table_close(&t);
	size_t n = ends[3];
	cr_assert_eq(pread(fds[0], file, sizeof(file), 0), (ssize_t)n);
	for (size_t i = 0; i < n; i++) {
		size_t whole = 0;
		while (whole < 3 && ends[whole + 1] <= i)
			whole++;
		cr_assert_eq(survivors(file, i), whole, "cut at %zu", i);
		file[i] = (char)(file[i] ^ 0x10);
		cr_assert_eq(survivors(file, n), whole, "flipped at %zu", i);
		file[i] = (char)(file[i] ^ 0x10);
	}
	cr_assert_eq(survivors(file, n), 3);
}

Test(journal, the_higher_sequence_wins_when_both_files_are_valid)
{
	struct journal j;
	struct table t;
	char file[1024];

	start(&j, &t);
	create(&j, &t, 1);
	size_t n = j.offset;
	cr_assert_eq(pread(fds[0], file, sizeof(file), 0), (ssize_t)n);
	for (uint32_t i = 2; j.sequence == 1; i++) {
		create(&j, &t, i);
		end(&j, &t, i);
		journal_compact(&j, &t);
	}
	create(&j, &t, 1 << 30);
	table_close(&t);
	cr_assert_eq(file_size(fds[0]), 0);
	cr_assert_eq(pwrite(fds[0], file, n, 0), (ssize_t)n);
	start(&j, &t);
	cr_assert_eq(j.active, 1);
	cr_assert_eq(table_count(&t), 2);
	cr_assert_eq(file_size(fds[0]), 0);
	table_close(&t);
}

Test(journal, changes_between_the_steps_of_a_compaction_are_kept)
{
	enum { MANY = 40000 };
	struct journal j;
	struct table t;
	uint32_t next = MANY;

	start(&j, &t);
	for (uint32_t i = 0; i < MANY; i++)
		create(&j, &t, i);
	for (uint32_t i = MANY / 4; i < MANY; i++)
		end(&j, &t, i);
	cr_assert(journal_compact(&j, &t), "more than one step");
	do {
		struct session_id cursor = session_key(j.cursor);
		uint32_t number;
		memcpy(&number, cursor.bytes, sizeof(number));
		end(&j, &t, number);
		create(&j, &t, next++);
		/* kill -9 here: the unfinished copy counts for nothing */
		cr_assert_eq(j.sequence, 1);
	} while (journal_compact(&j, &t));
	end(&j, &t, 0);
	size_t count = table_count(&t);
	cr_assert_eq(j.sequence, 2);
	cr_assert_lt(j.offset, JOURNAL_COMPACT_FROM);
	table_close(&t);
	start(&j, &t);
	cr_assert_eq(table_count(&t), count);
	table_close(&t);
}
