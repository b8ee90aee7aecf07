/* method: see method.h. Looked up once per request; a handful of rows beats a hash. */
#include "worker/mcp/method.h"

/* clang-format off */
static const struct mcp_method methods[] = {
    /* name, class, eras, subject, repeatable, stream, cacheable, asks */
    {{"tools/call", 10}, METRIC_METHOD_TOOLS_CALL, METHOD_ALWAYS, SUBJECT_NAME, false, false, false, true},
    {{"tools/list", 10}, METRIC_METHOD_TOOLS_LIST, METHOD_ALWAYS, SUBJECT_NONE, true, false, true, false},
    {{"initialize", 10}, METRIC_METHOD_INITIALIZE, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"ping", 4}, METRIC_METHOD_CONTROL, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"logging/setLevel", 16}, METRIC_METHOD_CONTROL, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"server/discover", 15}, METRIC_METHOD_CONTROL, METHOD_MODERN, SUBJECT_NONE, true, false, true, false},
    {{"subscriptions/listen", 20}, METRIC_METHOD_STREAM, METHOD_MODERN, SUBJECT_NONE, true, true, false, false},
    {{"resources/list", 14}, METRIC_METHOD_RESOURCES, METHOD_ALWAYS, SUBJECT_NONE, true, false, true, false},
    {{"resources/templates/list", 24}, METRIC_METHOD_RESOURCES, METHOD_ALWAYS, SUBJECT_NONE, true, false, true, false},
    {{"resources/read", 14}, METRIC_METHOD_RESOURCES, METHOD_ALWAYS, SUBJECT_URI, true, false, true, true},
    {{"resources/subscribe", 19}, METRIC_METHOD_RESOURCES, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"resources/unsubscribe", 21}, METRIC_METHOD_RESOURCES, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"prompts/list", 12}, METRIC_METHOD_PROMPTS, METHOD_ALWAYS, SUBJECT_NONE, true, false, true, false},
    {{"prompts/get", 11}, METRIC_METHOD_PROMPTS, METHOD_ALWAYS, SUBJECT_NAME, true, false, false, true},
    {{"completion/complete", 19}, METRIC_METHOD_COMPLETION, METHOD_ALWAYS, SUBJECT_NONE, true, false, false, false},
    {{"tasks/get", 9}, METRIC_METHOD_CONTROL, METHOD_ALWAYS, SUBJECT_NONE, true, false, false, false},
    {{"tasks/list", 10}, METRIC_METHOD_CONTROL, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"tasks/result", 12}, METRIC_METHOD_CONTROL, METHOD_LEGACY, SUBJECT_NONE, true, false, false, false},
    {{"tasks/update", 12}, METRIC_METHOD_CONTROL, METHOD_MODERN, SUBJECT_NONE, false, false, false, false},
    {{"tasks/cancel", 12}, METRIC_METHOD_CONTROL, METHOD_ALWAYS, SUBJECT_NONE, true, false, false, false},
};
/* clang-format on */

static const struct mcp_method other = {.name = {"", 0}, .class = METRIC_METHOD_OTHER};

const struct mcp_method *mcp_method_find(struct span name)
{
	for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
		if (span_equal(methods[i].name, name))
			return &methods[i];
	}
	return &other;
}
