/* json: cJSON values built so that no failed allocation goes unseen, and read in one word. */
#ifndef MARGAY_MASTER_DEMO_JSON_H
#define MARGAY_MASTER_DEMO_JSON_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "common/attributes.h"

/* NULL when there is no such member, or no object. The first of equal keys counts. */
const cJSON *json_member(const cJSON *object, const char *key);
/* NULL also when the member is no string. */
const char *json_string(const cJSON *object, const char *key);

/* Add to an object, or to an array. They take over `value`, which may be NULL for out of memory;
 * false when it was not added. */
bool json_add(cJSON *object, const char *key, cJSON *value) MUST_CHECK;
bool json_append(cJSON *array, cJSON *value) MUST_CHECK;
/* `json` when building it went well; else NULL, with `json` deleted. */
cJSON *json_finish(cJSON *json, bool complete) MUST_CHECK;

#endif
