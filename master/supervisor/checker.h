/*
 * checker: a configuration file read and judged in a child, so that nothing in it can hurt the
 * master.
 *
 * The child binds nothing and changes nothing. It sends its verdict as JSON over a pipe and ends;
 * one that hangs is killed after ten seconds, one that crashes counts as a bad configuration.
 */
#ifndef MARGAY_MASTER_SUPERVISOR_CHECKER_H
#define MARGAY_MASTER_SUPERVISOR_CHECKER_H

#include <ev.h>

#include "common/attributes.h"
#include "common/buffer.h"
#include "common/config/config.h"

struct cJSON;
struct checker;

/* `errors` (the callee's) is an empty array when the bytes may be taken into service. The checker
 * is freed after. */
typedef void checker_done(struct checker *checker, struct cJSON *errors);

/* Check `bytes` (taken over) of the file called `name`; what `defaults` points to must stay. 0 or
 * -errno; on error the bytes stay the caller's. */
int checker_start(struct ev_loop *loop, const char *name, const struct config_defaults *defaults,
    struct buffer *bytes, checker_done *done, void *context, struct checker **out) MUST_CHECK;
void checker_cancel(struct checker *checker);
/* The bytes that were checked, and nothing else may be taken into service. */
const struct buffer *checker_bytes(const struct checker *checker);
void *checker_context(const struct checker *checker);
/* All errors of a file, likewise as an array. */
struct cJSON *checker_errors(const char *file, const struct config_errors *errors);
/* One error as the reports show it: {"file","line","key","problem","remedy"}. NULL when memory is
 * short. */
struct cJSON *checker_error(
    const char *file, unsigned line, const char *key, const char *problem, const char *remedy);

#endif
