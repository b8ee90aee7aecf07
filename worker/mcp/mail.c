/* mail: see mail.h. */
#include "worker/mcp/mail.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <string.h>
#include <sys/random.h>

#include "worker/worker.h"

static void on_mail(void *context, const struct mail_box_id *id, unsigned kind, struct span payload)
{
	static const struct mail_box_id everybody = {{0}};
	struct worker *w = context;
	struct mailbox *box;

	if (memcmp(id, &everybody, sizeof(*id)) == 0) {
		w->mail_for_all(w, (enum mail_kind)kind, payload);
		return;
	}
	HASH_FIND(hh, w->mailboxes, id, sizeof(*id), box);
	if (box)
		box->mail(box, (enum mail_kind)kind, payload);
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

void mail_start(
    struct worker *w, void (*everybody)(struct worker *w, enum mail_kind kind, struct span payload))
{
	w->mail_for_all = everybody;
	sessions_on_mail(w->sessions, on_mail, on_reconnected, w);
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
