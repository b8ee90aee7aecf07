/* request: see request.h. */
#include "master/supervisor/request.h"

#include <cjson/cJSON.h>
#include <stdio.h>

bool request_word(struct span line, char word[REQUEST_WORD_MAX])
{
	cJSON *request = cJSON_ParseWithLength(line.p, line.n);
	const char *text =
	    cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(request, "command"));

	if (text)
		snprintf(word, REQUEST_WORD_MAX, "%s", text);
	cJSON_Delete(request);
	return text != NULL;
}
