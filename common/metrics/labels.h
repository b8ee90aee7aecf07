/*
 * labels: the fixed values of metric labels. What else a label may say comes from the
 * configuration.
 */
#ifndef MARGAY_COMMON_METRICS_LABELS_H
#define MARGAY_COMMON_METRICS_LABELS_H

/* clang-format off */
/* Method classes: what the label `method` may say. */
#define METRIC_METHODS(X)                \
	X(OTHER, "other")                \
	X(INITIALIZE, "initialize")      \
	X(NOTIFICATION, "notification")  \
	X(RESPONSE, "response")          \
	X(TOOLS_LIST, "tools/list")      \
	X(TOOLS_CALL, "tools/call")      \
	X(RESOURCES, "resources")        \
	X(PROMPTS, "prompts")            \
	X(COMPLETION, "completion")      \
	X(CONTROL, "control")            \
	X(STREAM, "stream")              \
	X(DELETE, "delete")
/* Outcomes of a request. */
#define METRIC_OUTCOMES(X)                  \
	X(OK, "ok")                         \
	X(RPC_ERROR, "rpc_error")           \
	X(REJECTED, "rejected")             \
	X(UPSTREAM_ERROR, "upstream_error") \
	X(TIMEOUT, "timeout")               \
	X(ABORTED, "aborted")
/* Why a request to an upstream failed. */
#define METRIC_REASONS(X)       \
	X(DNS, "dns")           \
	X(CONNECT, "connect")   \
	X(TIMEOUT, "timeout")   \
	X(PROTOCOL, "protocol") \
	X(CLOSED, "closed")     \
	X(STATUS, "status")     \
	X(LIMIT, "limit")
/* Why a session ended. */
#define METRIC_ENDS(X)          \
	X(CLIENT, "client")     \
	X(EXPIRED, "expired")   \
	X(UPSTREAM, "upstream") \
	X(ADMIN, "admin")
/* Why a line of a stdio child was dropped. */
#define METRIC_DROPS(X)             \
	X(NOT_JSON, "not_json")     \
	X(NOT_RPC, "not_rpc")       \
	X(TOO_LONG, "too_long")     \
	X(UNKNOWN_ID, "unknown_id") \
	X(NO_SESSION, "no_session")
/* Bytes, seen from Margay towards its clients. */
#define METRIC_DIRECTIONS(X) \
	X(IN, "in")          \
	X(OUT, "out")
/* clang-format on */

#define METRIC_ENUM_METHOD(id, name) METRIC_METHOD_##id,
enum metric_method { METRIC_METHODS(METRIC_ENUM_METHOD) METRIC_METHOD_COUNT };
#define METRIC_ENUM_OUTCOME(id, name) METRIC_OUTCOME_##id,
enum metric_outcome { METRIC_OUTCOMES(METRIC_ENUM_OUTCOME) METRIC_OUTCOME_COUNT };
#define METRIC_ENUM_REASON(id, name) METRIC_REASON_##id,
enum metric_reason { METRIC_REASONS(METRIC_ENUM_REASON) METRIC_REASON_COUNT };
#define METRIC_ENUM_END(id, name) METRIC_END_##id,
enum metric_end { METRIC_ENDS(METRIC_ENUM_END) METRIC_END_COUNT };
#define METRIC_ENUM_DROP(id, name) METRIC_DROP_##id,
enum metric_drop { METRIC_DROPS(METRIC_ENUM_DROP) METRIC_DROP_COUNT };
#define METRIC_ENUM_DIRECTION(id, name) METRIC_DIRECTION_##id,
enum metric_direction { METRIC_DIRECTIONS(METRIC_ENUM_DIRECTION) METRIC_DIRECTION_COUNT };

#endif
