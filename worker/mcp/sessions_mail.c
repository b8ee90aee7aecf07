/* sessions_mail: mail to and from other workers, and the boxes that it comes to; see sessions.h. */
#include <errno.h>
#include <string.h>

#include "worker/mcp/sessions_question.h"

static const struct session_id no_session = {{0}};

/* --- what comes --- */

void sessions_take_mail(struct sessions *s, struct wire_reader *r, int fd)
{
	struct mail_box_id box;
	struct mapping memory = {0};
	char copy[MAIL_INLINE_MAX];

	wire_get_bytes(r, box.bytes, sizeof(box.bytes));
	unsigned kind = wire_get_u8(r);
	size_t n = r->length - r->offset;
	if (r->error || !s->mail || n > sizeof(copy))
		return;
	/* What it leads to may be said to the broker, whose frames are built where this one is. */
	memcpy(copy, r->p + r->offset, n);
	struct span text = {copy, n};
	if (fd >= 0 && mapping_open(&s->released, fd, MAIL_MAX, &memory))
		return;
	if (fd >= 0)
		text = memory.text;
	s->mail(s->mail_context, &box, kind, text, &memory);
	mapping_release(&memory);
}

/* --- what goes --- */

static void on_parcel_over(struct parcels *held, struct parcel *p, int error)
{
	struct sessions *s = container_of(held, struct sessions, held);
	struct question *q = container_of(p, struct question, parcel);

	TAILQ_INSERT_TAIL(&s->unsent, q, link);
	if (error) {
		LOG(s->boot->log, LOG_LEVEL_ERROR, "a piece of mail is lost", LOG_ERRNO(-error));
		sessions_answer(q, -ENOBUFS, NULL);
	}
	sessions_send(s);
}

static void on_parcels_idle(struct parcels *held)
{
	struct sessions *s = container_of(held, struct sessions, held);

	if (s->mailed)
		s->mailed(s->mail_context);
}

void sessions_mail_init(struct sessions *s)
{
	parcels_init(&s->held, s->loop, on_parcel_over, on_parcels_idle);
	mappings_init(&s->released, s->loop);
}

void sessions_on_mail(struct sessions *s, session_mail *mail, void (*reopen)(void *context),
    void (*mailed)(void *context), void *context)
{
	s->mail = mail;
	s->reopen = reopen;
	s->mailed = mailed;
	s->mail_context = context;
}

bool sessions_mailing(const struct sessions *s)
{
	return !TAILQ_EMPTY(&s->held.list);
}

/* Send what is asked about a box, when it may go: a box is closed when all is sent that was mailed
 * before. */
static void question_post(struct question *q)
{
	struct sessions *s = q->sessions;

	TAILQ_REMOVE(&s->unsent, q, link);
	if (parcels_hold(&s->held, &q->parcel, q->type == BROKER_BOX_CLOSE))
		return;
	TAILQ_INSERT_TAIL(&s->unsent, q, link);
	sessions_send(s);
}

/* NULL: there is no room. */
static struct question *ask_to_mail(struct sessions *s, const struct mail_box_id *box,
    unsigned kind, size_t n, struct session_call *call)
{
	struct question *q = NULL;

	if (n <= MAIL_MAX - s->mail_bytes && s->call_count < QUESTIONS_MAX)
		q = sessions_ask(s, BROKER_MAIL, &no_session, call);
	if (!q)
		return NULL;
	q->parcel.box = *box;
	q->kind = (uint8_t)kind;
	q->mail_length = n;
	s->mail_bytes += n;
	return q;
}

/* It has what it says, or not. */
static int mail(struct question *q, int error)
{
	if (!error) {
		question_post(q);
		return 0;
	}
	if (q->call)
		q->call->request = 0;
	sessions_forget(q);
	return -ENOBUFS;
}

int sessions_mail(struct sessions *s, const struct mail_box_id *box, unsigned kind,
    struct span payload, struct session_call *call)
{
	struct question *q = ask_to_mail(s, box, kind, payload.n, call);

	return q ? mail(q, parcel_copy(&q->parcel, payload)) : -ENOBUFS;
}

int sessions_mail_long(struct sessions *s, const struct mail_box_id *box, unsigned kind,
    struct buffer *payload, struct session_call *call)
{
	struct question *q = ask_to_mail(s, box, kind, buffer_length(payload), call);

	return q ? mail(q, parcel_take(&q->parcel, payload)) : -ENOBUFS;
}

int sessions_box(
    struct sessions *s, const struct mail_box_id *box, bool open, struct session_call *call)
{
	struct question *q;

	if (s->call_count >= QUESTIONS_MAX || s->end_count >= ENDS_MAX ||
	    !(q = sessions_ask(s, open ? BROKER_BOX_OPEN : BROKER_BOX_CLOSE, &no_session, call)))
		return -ENOBUFS;
	q->parcel.box = *box;
	question_post(q);
	return 0;
}
