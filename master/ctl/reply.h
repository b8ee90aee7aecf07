/* reply: what a reply of the control socket says under a key; nothing is an empty text or 0. */
#ifndef MARGAY_MASTER_CTL_REPLY_H
#define MARGAY_MASTER_CTL_REPLY_H

#include <cjson/cJSON.h>

static inline const char *reply_text(const cJSON *object, const char *key)
{
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(object, key));

	return text ? text : "";
}

static inline double reply_number(const cJSON *object, const char *key)
{
	const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, key);

	return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

#endif
