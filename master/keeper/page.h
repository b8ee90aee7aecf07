/*
 * page: what the next keeper must know of a child, in a memfd that the master holds.
 *
 * One page, mapped and written in place; behind it the handshake and its result, written once, and
 * the subscriptions.
 * Only processes of the same binary read it.
 */
#ifndef MARGAY_MASTER_KEEPER_PAGE_H
#define MARGAY_MASTER_KEEPER_PAGE_H

#include <stdint.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/config/config.h"
#include "common/session_id.h"

enum { PAGE_MAGIC = 0x4b504147, PAGE_VERSION = 2, PAGE_SIZE = 4096, PAGE_NAME = 128 };

struct page {
	uint32_t magic, version;
	uint64_t id;
	int32_t pid;  /* 0: no process now */
	uint32_t row; /* in the children file */
	uint64_t start_time;
	double started;      /* clock_coarse(), which all processes share */
	uint8_t ready;       /* one of its processes was initialized once */
	uint8_t initialized; /* this one was */
	uint8_t bound;       /* it has a session */
	uint8_t stateless;   /* it is of the stateless era and everybody's */
	uint8_t midway_in;   /* a line for it may have been written in part */
	uint8_t midway_out;  /* a line of its was read in part */
	uint32_t restarts;
	uint32_t handshake, result, subscriptions; /* bytes behind the page, in this order */
	struct session_id session;                 /* of a child of one session */
	char upstream[PAGE_NAME];
	char digest[CONFIG_SHA256_TEXT];
	char mark[64];
};

/* A new, empty one: its descriptor, mapped at *out. Or -errno. */
int page_create(struct page **out) MUST_CHECK;
/* Map one that was kept. 0, or -errno when it is none. */
int page_open(int fd, struct page **out) MUST_CHECK;
void page_close(struct page *p);
/* Put down the two texts. 0 or -errno. */
int page_write_texts(int fd, struct page *p, struct span handshake, struct span result) MUST_CHECK;
int page_read_texts(
    int fd, const struct page *p, struct buffer *handshake, struct buffer *result) MUST_CHECK;

/* What sessions of a shared child subscribed to, as link.c writes it; after the texts. */
int page_write_subscriptions(int fd, struct page *p, struct span subscriptions) MUST_CHECK;
int page_read_subscriptions(int fd, const struct page *p, struct buffer *out) MUST_CHECK;

#endif
