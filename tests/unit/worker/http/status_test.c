/* status: what Margay answers with is valid JSON, whatever it is made of. */
#include "worker/http/status.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>

Test(status, error_bodies_escape_their_message_and_echo_the_raw_id)
{
	struct buffer out = {0};

	cr_assert_eq(status_error_body(
			 &out, SPAN("\"a\\u0041\""), -32603, "say \"hi\"\\\n\x01", SPAN("[1]")),
	    0);
	cr_assert(span_equal(buffer_span(&out),
	    SPAN("{\"jsonrpc\":\"2.0\",\"id\":\"a\\u0041\",\"error\":{\"code\":-32603,"
		 "\"message\":\"say \\\"hi\\\"\\\\\\u000a\\u0001\",\"data\":[1]}}")));
	cJSON *json = cJSON_ParseWithLength(buffer_span(&out).p, buffer_span(&out).n);
	cr_assert_not_null(json);
	cJSON_Delete(json);
	buffer_release(&out);
}

Test(status, an_unknown_id_is_left_out)
{
	struct buffer out = {0};

	cr_assert_eq(status_error_body(&out, (struct span){0}, -32700, "x", (struct span){0}), 0);
	cr_assert(span_equal(buffer_span(&out),
	    SPAN("{\"jsonrpc\":\"2.0\",\"error\":{\"code\":-32700,\"message\":\"x\"}}")));
	buffer_release(&out);
}
