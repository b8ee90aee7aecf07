/* request: see request.h. */
#include "master/supervisor/request.h"

#include <cjson/cJSON.h>
#include <stdio.h>

bool request_text(struct span line, const char *key, char out[REQUEST_WORD_MAX])
{
	cJSON *request = cJSON_ParseWithLength(line.p, line.n);
	const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, key));

	if (text)
		snprintf(out, REQUEST_WORD_MAX, "%s", text);
	cJSON_Delete(request);
	return text != NULL;
}
