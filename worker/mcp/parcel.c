/* parcel: see parcel.h. */
#include "worker/mcp/parcel.h"

#include <errno.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/turn.h"

static bool is_whole(const struct parcel *p)
{
	return p->fd < 0 || buffer_length(&p->text) == 0;
}

/* One step. 0 or -errno. */
static int fill(struct parcel *p)
{
	struct span rest = buffer_span(&p->text);
	ssize_t n = write(p->fd, rest.p, rest.n < PARCEL_STEP ? rest.n : PARCEL_STEP);

	if (n < 0)
		return -errno;
	buffer_consume(&p->text, (size_t)n);
	if (is_whole(p))
		buffer_release(&p->text);
	return 0;
}

static void leave(struct parcel *p)
{
	TAILQ_REMOVE(&p->held->list, p, link);
	p->held = NULL;
}

static void go_on(struct parcels *held)
{
	if (TAILQ_EMPTY(&held->list) || ev_is_active(&held->turn))
		return;
	ev_timer_set(&held->turn, 0, 0);
	ev_timer_start(held->loop, &held->turn);
}

static void on_turn(struct ev_loop *loop, ev_timer *timer, int events)
{
	struct parcels *held = container_of(timer, struct parcels, turn);
	struct parcel *p = TAILQ_FIRST(&held->list);

	turn_enter("mail");
	(void)loop;
	(void)events;
	int error = p && !is_whole(p) ? fill(p) : 0;
	if (error) {
		leave(p);
		held->over(held, p, error);
	}
	while ((p = TAILQ_FIRST(&held->list)) && is_whole(p)) {
		leave(p);
		held->over(held, p, 0);
	}
	if (TAILQ_EMPTY(&held->list))
		held->idle(held);
	go_on(held);
}

void parcels_init(struct parcels *held, struct ev_loop *loop,
    void (*over)(struct parcels *held, struct parcel *p, int error),
    void (*idle)(struct parcels *held))
{
	TAILQ_INIT(&held->list);
	held->loop = loop;
	held->over = over;
	held->idle = idle;
	ev_timer_init(&held->turn, on_turn, 0, 0);
}

void parcels_stop(struct parcels *held)
{
	ev_timer_stop(held->loop, &held->turn);
}

void parcel_init(struct parcel *p)
{
	*p = (struct parcel){.fd = -1};
}

int parcel_copy(struct parcel *p, struct span text)
{
	return buffer_append(&p->text, text.p, text.n, MAIL_INLINE_MAX);
}

int parcel_take(struct parcel *p, struct buffer *text)
{
	if (buffer_length(text) <= MAIL_INLINE_MAX)
		return parcel_copy(p, buffer_span(text));
	p->fd = memfd_create("mail", MFD_CLOEXEC);
	if (p->fd < 0)
		return -errno;
	p->text = *text;
	*text = (struct buffer){0};
	return 0;
}

bool parcels_hold(struct parcels *held, struct parcel *p, bool behind_all)
{
	const struct parcel *other;
	bool wait = !is_whole(p) || (behind_all && !TAILQ_EMPTY(&held->list));

	for (other = TAILQ_FIRST(&held->list); other && !wait; other = TAILQ_NEXT(other, link))
		wait = memcmp(&other->box, &p->box, sizeof(p->box)) == 0;
	if (!wait)
		return false;
	p->held = held;
	TAILQ_INSERT_TAIL(&held->list, p, link);
	go_on(held);
	return true;
}

void parcel_release(struct parcel *p)
{
	if (p->held)
		leave(p);
	buffer_release(&p->text);
	if (p->fd >= 0)
		close(p->fd);
	p->fd = -1;
}
