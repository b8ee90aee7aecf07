/* page: see page.h. */
#include "master/keeper/page.h"

#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

_Static_assert(sizeof(struct page) <= PAGE_SIZE, "a page is a page");

static int map(int fd, struct page **out)
{
	void *at = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	if (at == MAP_FAILED)
		return -errno;
	*out = at;
	return 0;
}

int page_create(struct page **out)
{
	int fd = memfd_create("margay-child", MFD_CLOEXEC);

	if (fd < 0)
		return -errno;
	int error = ftruncate(fd, PAGE_SIZE) < 0 ? -errno : map(fd, out);
	if (error) {
		close(fd);
		return error;
	}
	(*out)->magic = PAGE_MAGIC;
	(*out)->version = PAGE_VERSION;
	return fd;
}

int page_open(int fd, struct page **out)
{
	struct stat status;

	if (fstat(fd, &status) < 0 || status.st_size < PAGE_SIZE)
		return -EPROTO;
	int error = map(fd, out);
	if (error)
		return error;
	if ((*out)->magic == PAGE_MAGIC && (*out)->version == PAGE_VERSION)
		return 0;
	page_close(*out);
	return -EPROTO;
}

void page_close(struct page *p)
{
	munmap(p, PAGE_SIZE);
}

int page_write_texts(int fd, struct page *p, struct span handshake, struct span result)
{
	p->handshake = p->result = p->subscriptions = 0;
	if (pwrite(fd, handshake.p, handshake.n, PAGE_SIZE) != (ssize_t)handshake.n ||
	    pwrite(fd, result.p, result.n, (off_t)(PAGE_SIZE + handshake.n)) != (ssize_t)result.n)
		return -EIO;
	p->handshake = (uint32_t)handshake.n;
	p->result = (uint32_t)result.n;
	return 0;
}

static int read_text(int fd, size_t at, size_t n, struct buffer *out)
{
	int error = buffer_reserve(out, n + 1, n + 1);

	if (error)
		return error;
	if (pread(fd, out->data + out->tail, n, (off_t)at) != (ssize_t)n)
		return -EIO;
	out->tail += (uint32_t)n;
	return 0;
}

int page_read_texts(int fd, const struct page *p, struct buffer *handshake, struct buffer *result)
{
	int error = read_text(fd, PAGE_SIZE, p->handshake, handshake);

	return error ? error : read_text(fd, PAGE_SIZE + p->handshake, p->result, result);
}

static size_t texts_end(const struct page *p)
{
	return PAGE_SIZE + (size_t)p->handshake + p->result;
}

int page_write_subscriptions(int fd, struct page *p, struct span subscriptions)
{
	/* None is better than half of one, should we be killed here. */
	p->subscriptions = 0;
	if (pwrite(fd, subscriptions.p, subscriptions.n, (off_t)texts_end(p)) !=
	    (ssize_t)subscriptions.n)
		return -EIO;
	p->subscriptions = (uint32_t)subscriptions.n;
	return 0;
}

int page_read_subscriptions(int fd, const struct page *p, struct buffer *out)
{
	return read_text(fd, texts_end(p), p->subscriptions, out);
}
