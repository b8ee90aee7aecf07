/* method: see method.h. Looked up once per request; a handful of rows beats a hash. */
#include "worker/mcp/method.h"

static const struct mcp_method methods[] = {
    {{"tools/call", 10}, METRIC_METHOD_TOOLS_CALL, false},
    {{"tools/list", 10}, METRIC_METHOD_TOOLS_LIST, true},
    {{"initialize", 10}, METRIC_METHOD_INITIALIZE, true},
    {{"ping", 4}, METRIC_METHOD_CONTROL, true},
    {{"logging/setLevel", 16}, METRIC_METHOD_CONTROL, true},
    {{"resources/list", 14}, METRIC_METHOD_RESOURCES, true},
    {{"resources/templates/list", 24}, METRIC_METHOD_RESOURCES, true},
    {{"resources/read", 14}, METRIC_METHOD_RESOURCES, true},
    {{"resources/subscribe", 19}, METRIC_METHOD_RESOURCES, true},
    {{"resources/unsubscribe", 21}, METRIC_METHOD_RESOURCES, true},
    {{"prompts/list", 12}, METRIC_METHOD_PROMPTS, true},
    {{"prompts/get", 11}, METRIC_METHOD_PROMPTS, true},
    {{"completion/complete", 19}, METRIC_METHOD_COMPLETION, true},
    {{"tasks/get", 9}, METRIC_METHOD_CONTROL, true},
    {{"tasks/list", 10}, METRIC_METHOD_CONTROL, true},
    {{"tasks/result", 12}, METRIC_METHOD_CONTROL, true},
    {{"tasks/cancel", 12}, METRIC_METHOD_CONTROL, true},
};

static const struct mcp_method other = {{"", 0}, METRIC_METHOD_OTHER, false};

const struct mcp_method *mcp_method_find(struct span name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (span_equal(methods[i].name, name))
			return &methods[i];
	}
	return &other;
}
