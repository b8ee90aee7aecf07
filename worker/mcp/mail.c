/* mail: see mail.h. */
#include "worker/mcp/mail.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "worker/worker.h"

static const struct mail_box_id everybody = {{0}};

void mail_box_format(const struct mail_box_id *box, char out[MAIL_BOX_TEXT + 1])
{
	for (size_t i = 0; i < MAIL_BOX_BYTES; i++)
		sprintf(out + 2 * i, "%02x", box->bytes[i]);
}

static int hex_value(char c)
{
	const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;

	return at ? (int)(at - digits) : -1;
}

bool mail_box_parse(struct span text, struct mail_box_id *out)
{
	if (text.n != MAIL_BOX_TEXT)
		return false;
	for (size_t i = 0; i < MAIL_BOX_BYTES; i++) {
		int high = hex_value(text.p[2 * i]), low = hex_value(text.p[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		out->bytes[i] = (uint8_t)(high << 4 | low);
	}
	return memcmp(out, &everybody, sizeof(*out)) != 0;
}

static void on_mail(void *context, const struct mail_box_id *id, unsigned kind, struct span payload,
    struct mapping *memory)
{
	struct worker *w = context;
	struct mailbox *box;

	if (memcmp(id, &everybody, sizeof(*id)) == 0) {
		w->mail_for_all(w, (enum mail_kind)kind, payload);
		return;
	}
	HASH_FIND(hh, w->mailboxes, id, sizeof(*id), box);
	if (box)
		box->mail(box, (enum mail_kind)kind, payload, memory);
}

/* After the broker was away it knows none of them. */
static void on_reconnected(void *context)
{
	struct worker *w = context;
	struct mailbox *box;

	for (box = w->mailboxes; box; box = box->hh.next) {
		if (sessions_box(w->sessions, &box->id, true, NULL))
			LOG_TEXT(w->log, LOG_LEVEL_ERROR, "a box could not be opened again");
	}
}

/* It may have been all that the worker's end waited for. */
static void on_mailed(void *context)
{
	worker_check_done(context);
}

void mail_start(
    struct worker *w, void (*for_all)(struct worker *w, enum mail_kind kind, struct span payload))
{
	w->mail_for_all = for_all;
	sessions_on_mail(w->sessions, on_mail, on_reconnected, on_mailed, w);
}

static void on_opened(struct session_call *call, int status, const struct session_record *record)
{
	struct mailbox *box = container_of(call, struct mailbox, opening);

	(void)record;
	box->opened(box, status);
}

static int open_box(struct worker *w, struct mailbox *box)
{
	struct mailbox *other;

	HASH_FIND(hh, w->mailboxes, &box->id, sizeof(box->id), other);
	if (other)
		return -EEXIST;
	box->opening.done = on_opened;
	int error = sessions_box(w->sessions, &box->id, true, &box->opening);
	if (error)
		return error;
	box->worker = w;
	HASH_ADD(hh, w->mailboxes, id, sizeof(box->id), box);
	return 0;
}

int mailbox_open(struct worker *w, struct mailbox *box)
{
	if (getrandom(&box->id, sizeof(box->id), GRND_NONBLOCK) != sizeof(box->id))
		return -EIO;
	return open_box(w, box);
}

int mailbox_id(struct worker *w, const char *purpose, const struct session_id *session,
    struct mail_box_id *out)
{
	uint8_t digest[EVP_MAX_MD_SIZE];
	char text[64];
	unsigned length = 0;
	size_t n = strnlen(purpose, sizeof(text) - SESSION_ID_BYTES);

	memcpy(text, session->bytes, SESSION_ID_BYTES);
	memcpy(text + SESSION_ID_BYTES, purpose, n);
	if (!HMAC(EVP_sha256(), w->boot->session_key, SESSION_KEY_SIZE, (const unsigned char *)text,
		SESSION_ID_BYTES + n, digest, &length))
		return -EIO;
	memcpy(out->bytes, digest, sizeof(out->bytes));
	return 0;
}

int mailbox_open_as(
    struct worker *w, struct mailbox *box, const char *purpose, const struct session_id *session)
{
	int error = mailbox_id(w, purpose, session, &box->id);

	return error ? error : open_box(w, box);
}

struct mailbox *mailbox_find(
    struct worker *w, const char *purpose, const struct session_id *session)
{
	struct mail_box_id id;
	struct mailbox *box = NULL;

	if (w->mailboxes && !mailbox_id(w, purpose, session, &id))
		HASH_FIND(hh, w->mailboxes, &id, sizeof(id), box);
	return box;
}

void mailbox_close(struct mailbox *box)
{
	struct worker *w = box->worker;

	if (!w)
		return;
	HASH_DEL(w->mailboxes, box);
	session_call_cancel(w->sessions, &box->opening);
	/* A box that the broker keeps costs it a few bytes until this worker ends. */
	if (sessions_box(w->sessions, &box->id, false, NULL))
		LOG_TEXT(w->log, LOG_LEVEL_WARN, "a box could not be closed");
	box->worker = NULL;
}
