/* page: what the next keeper reads is what this one wrote. */
#include "master/keeper/page.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

Test(page, keeps_its_texts)
{
	struct buffer handshake = {0}, result = {0};
	struct page *p, *again;

	int fd = page_create(&p);
	cr_assert_geq(fd, 0);
	p->id = 42;
	cr_assert_eq(page_write_texts(fd, p, SPAN("handshake"), SPAN("")), 0);
	cr_assert_eq(page_write_texts(fd, p, SPAN("hello"), SPAN("the result")), 0);
	page_close(p);
	cr_assert_eq(page_open(fd, &again), 0);
	cr_expect_eq(again->id, 42);
	cr_assert_eq(page_read_texts(fd, again, &handshake, &result), 0);
	cr_expect(span_equal(buffer_span(&handshake), SPAN("hello")));
	cr_expect(span_equal(buffer_span(&result), SPAN("the result")));
	buffer_release(&handshake);
	buffer_release(&result);
	cr_assert_eq(page_write_subscriptions(fd, again, SPAN("subscribed")), 0);
	cr_assert_eq(page_write_subscriptions(fd, again, SPAN("less")), 0);
	cr_assert_eq(page_read_subscriptions(fd, again, &handshake), 0);
	cr_expect(span_equal(buffer_span(&handshake), SPAN("less")));
	buffer_release(&handshake);
	page_close(again);
	close(fd);
}

Test(page, refuses_what_is_none)
{
	struct page *p;
	int fd = memfd_create("test", MFD_CLOEXEC);

	cr_expect_eq(page_open(fd, &p), -EPROTO, "too short");
	cr_assert_eq(ftruncate(fd, PAGE_SIZE), 0);
	cr_expect_eq(page_open(fd, &p), -EPROTO, "no magic");
	close(fd);
}

Test(page, a_length_beyond_its_end_is_an_error)
{
	struct buffer handshake = {0}, result = {0};
	struct page *p;
	int fd = page_create(&p);

	cr_assert_eq(page_write_texts(fd, p, SPAN("hello"), SPAN("x")), 0);
	p->result = 100;
	cr_expect_eq(page_read_texts(fd, p, &handshake, &result), -EIO);
	buffer_release(&handshake);
	buffer_release(&result);
	page_close(p);
	close(fd);
}
