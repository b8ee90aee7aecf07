/* json: see json.h. */
#include "master/demo/json.h"

const cJSON *json_member(const cJSON *object, const char *key)
{
	return cJSON_GetObjectItemCaseSensitive(object, key);
}

const char *json_string(const cJSON *object, const char *key)
{
	return cJSON_GetStringValue(json_member(object, key));
}

bool json_add(cJSON *object, const char *key, cJSON *value)
{
	if (value && cJSON_AddItemToObject(object, key, value))
		return true;
	cJSON_Delete(value);
	return false;
}

bool json_append(cJSON *array, cJSON *value)
{
	if (value && cJSON_AddItemToArray(array, value))
		return true;
	cJSON_Delete(value);
	return false;
}

cJSON *json_finish(cJSON *json, bool complete)
{
	if (complete)
		return json;
	cJSON_Delete(json);
	return NULL;
}
