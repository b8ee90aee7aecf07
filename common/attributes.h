/* attributes: compiler attributes that state a contract, spelled once. */
#ifndef MARGAY_COMMON_ATTRIBUTES_H
#define MARGAY_COMMON_ATTRIBUTES_H

#include <stddef.h>

/* The caller must look at the result: it is the only report of a failure. */
#define MUST_CHECK               __attribute__((warn_unused_result))
#define PRINTF_LIKE(text, first) __attribute__((__format__(__printf__, text, first)))
#define NORETURN                 __attribute__((noreturn))

/* The object that embeds `member` at `pointer`: how libev watchers find their owner without void *.
 */
#define container_of(pointer, type, member) \
	((type *)(void *)((char *)(pointer)-offsetof(type, member)))

#endif
