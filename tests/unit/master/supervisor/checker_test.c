/* checker: a verdict comes back from the child. */
#include "master/supervisor/checker.h"

#include <cjson/cJSON.h>
#include <criterion/criterion.h>
#include <stdint.h>
#include <stdio.h>

struct verdict {
	bool done;
	int errors;
	char first[128];
};

static void on_done(struct checker *checker, cJSON *errors)
{
	struct verdict *v = checker_context(checker);

	v->done = true;
	v->errors = cJSON_GetArraySize(errors);
	if (v->errors > 0)
		snprintf(v->first, sizeof(v->first), "%s:%d:%s",
		    cJSON_GetStringValue(
			cJSON_GetObjectItem(cJSON_GetArrayItem(errors, 0), "file")),
		    cJSON_GetObjectItem(cJSON_GetArrayItem(errors, 0), "line")->valueint,
		    cJSON_GetStringValue(
			cJSON_GetObjectItem(cJSON_GetArrayItem(errors, 0), "key")));
	cJSON_Delete(errors);
}

static struct verdict check(const char *text)
{
	struct ev_loop *loop = ev_default_loop(0);
	struct buffer bytes = {0};
	struct verdict v = {0};
	struct checker *checker;

	cr_assert_eq(buffer_append(&bytes, text, strlen(text), SIZE_MAX), 0);
	cr_assert_eq(checker_start(loop, "x.yaml", &(struct config_defaults){0}, &bytes, on_done,
			 &v, &checker),
	    0);
	double started = ev_time();
	while (!v.done) {
		cr_assert_lt(ev_time() - started, 15);
		ev_run(loop, EVRUN_ONCE);
	}
	return v;
}

Test(checker, accepts_what_is_good_and_names_what_is_not)
{
	struct verdict v =
	    check("listen: [{address: '127.0.0.1:1'}]\nupstreams: {a: {http: {url: 'http://x'}}}\n"
		  "routes: {/a: {upstream: a}}\n");

	cr_assert_eq(v.errors, 0);
	v = check("listen: [{address: '127.0.0.1:1'}]\nupstreams: {a: {http: {url: 'http://x'}}}\n"
		  "routes: {/a: {upstream: b}}\nwrokers: 3\n");
	cr_assert_eq(v.errors, 2);
	cr_assert_str_eq(v.first, "x.yaml:3:routes./a.upstream");
}

Test(checker, takes_a_thousand_errors_without_a_full_pipe)
{
	struct buffer text = {0};

	for (int i = 0; i < 1000; i++)
		cr_assert_eq(buffer_printf(&text, SIZE_MAX / 2, "unknown_key_%d: 1\n", i), 0);
	cr_assert_eq(buffer_append(&text, "", 1, SIZE_MAX), 0);
	struct verdict v = check(buffer_span(&text).p);
	cr_assert_geq(v.errors, 100);
	buffer_release(&text);
}
