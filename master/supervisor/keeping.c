/*
 * keeping: what the keeper asks the master to hold, and what the master asks the keeper.
 *
 * The vault is filled and emptied as the keeper says; whoever waits for a report finds it through
 * the control socket.
 */
#include <cjson/cJSON.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/ipc/channel.h"
#include "common/ipc/frame.h"
#include "master/supervisor/children.h"

enum { REPORT_MAX = 16 * 1024 * 1024 };

void keeping_keep(struct supervisor *s, uint64_t key, const int *fds, unsigned count)
{
	manifest_drop(&s->manifest, MANIFEST_CHILD, key);
	if (vault_put(&s->vault, key, fds, count) ||
	    manifest_put(&s->manifest, MANIFEST_CHILD, key, (struct span){"", 0}, fds, count))
		LOG_TEXT(
		    s->log, LOG_LEVEL_ERROR, "out of memory: a child would not outlive the keeper");
}

static void forget(struct supervisor *s, uint64_t key)
{
	manifest_drop(&s->manifest, MANIFEST_CHILD, key);
	vault_drop(&s->vault, key);
}

/* A report comes in a memfd, because it may be longer than a frame. */
static cJSON *read_report(int fd)
{
	struct stat status;
	cJSON *report = NULL;

	if (fstat(fd, &status) < 0 || status.st_size <= 0 || status.st_size > REPORT_MAX)
		return NULL;
	size_t n = (size_t)status.st_size;
	void *text = mmap(NULL, n, PROT_READ, MAP_PRIVATE, fd, 0);
	if (text == MAP_FAILED)
		return NULL;
	report = cJSON_ParseWithLength(text, n);
	munmap(text, n);
	return report;
}

void keeping_message(
    struct supervisor *s, const struct frame *frame, const int *fds, unsigned count)
{
	if (frame->type == CHANNEL_KEEP) {
		keeping_keep(s, frame->target, fds, count);
		return;
	}
	if (frame->type == CHANNEL_FORGET)
		forget(s, frame->target);
	else if (frame->type == CHANNEL_REPORT && s->control)
		control_report(s->control, frame->request, count == 1 ? read_report(fds[0]) : NULL);
	for (unsigned i = 0; i < count; i++)
		close(fds[i]);
}

void keeping_ask(struct supervisor *s, uint16_t type, uint32_t request, const char *upstream)
{
	struct frame frame = {.type = type, .request = request};

	if (s->keeper->channel < 0)
		return;
	frame.length = (uint32_t)strlen(upstream);
	/* Unheard, the asker is told when its patience is over. */
	if (frame_send(s->keeper->channel, &frame, upstream, -1))
		LOG_TEXT(s->log, LOG_LEVEL_WARN, "the keeper can't be asked");
}
