/*
 * noise: what children say to nobody: stderr, and lines of stdout that are no message.
 *
 * It goes to the log, escaped there, cut and at a bounded rate; what is held back is counted and
 * told once a second.
 */
#include "common/clock.h"
#include "master/keeper/peer.h"

static const double noise_rate = 100, noise_burst = 200; /* lines a second */

enum { NOISE_LINE = 1024 };

/* Whether one more line may be logged now. */
static bool may_log(struct instance *i)
{
	double now = clock_coarse();

	i->noise_tokens += (now - i->noise_at) * noise_rate;
	if (i->noise_tokens > noise_burst)
		i->noise_tokens = noise_burst;
	i->noise_at = now;
	if (i->noise_tokens < 1) {
		i->noise_dropped++;
		return false;
	}
	i->noise_tokens -= 1;
	return true;
}

static struct span cut(struct span line)
{
	return line.n > NOISE_LINE ? (struct span){line.p, NOISE_LINE} : line;
}

void noise_stderr(struct instance *i, struct span line)
{
	struct fleet *f = i->fleet;
	size_t n = line.n < sizeof(i->last_noise) - 1 ? line.n : sizeof(i->last_noise) - 1;

	if (!f)
		return;
	METRIC_ADD(i->keeper->metrics, STDERR_LINES, 1, f->metrics_id);
	if (n > 0) {
		memcpy(i->last_noise, line.p, n);
		i->last_noise[n] = '\0';
	}
	if (line.n > 0 && may_log(i))
		LOG(i->keeper->log, LOG_LEVEL_INFO, "child says", LOG_STR("upstream", f->name),
		    LOG_INT("child_pid", i->pid), LOG_SPAN("stderr", cut(line)));
}

void noise_dropped(struct instance *i, enum metric_drop reason, struct span line)
{
	static const char *const reasons[] = {
	    [METRIC_DROP_NOT_JSON] = "it is no JSON",
	    [METRIC_DROP_NOT_RPC] = "it is no JSON-RPC message",
	    [METRIC_DROP_TOO_LONG] = "it is longer than limits.line",
	    [METRIC_DROP_UNKNOWN_ID] = "it answers nothing that was asked",
	    [METRIC_DROP_NO_SESSION] = "no session can be told that it is for it",
	};
	struct fleet *f = i->fleet;

	if (!f)
		return;
	METRIC_ADD(i->keeper->metrics, LINES_DROPPED, 1, f->metrics_id, reason);
	if (!may_log(i))
		return;
	/* Messages may carry secrets: only what is none is shown. */
	bool shown = reason == METRIC_DROP_NOT_JSON;
	LOG(i->keeper->log, LOG_LEVEL_WARN, "line of a child dropped", LOG_STR("upstream", f->name),
	    LOG_INT("child_pid", i->pid), LOG_STR("reason", reasons[reason]),
	    LOG_UINT("bytes", line.n), LOG_SPAN("line", shown ? cut(line) : SPAN("")));
}

void noise_tick(struct instance *i)
{
	if (i->noise_dropped == 0)
		return;
	LOG(i->keeper->log, LOG_LEVEL_WARN, "child says more than is logged",
	    LOG_STR("upstream", i->fleet->name), LOG_INT("child_pid", i->pid),
	    LOG_UINT("lines", i->noise_dropped));
	i->noise_dropped = 0;
}
