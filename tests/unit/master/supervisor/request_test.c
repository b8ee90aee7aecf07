/* request: what is a request and what is not. */
#include "master/supervisor/request.h"

#include <criterion/criterion.h>

Test(request, takes_the_command_and_nothing_else)
{
	static const struct {
		const char *line, *word; /* NULL: no request */
	} rows[] = {
	    {"{\"command\":\"status\"}", "status"},
	    {" {\"x\":1,\"command\":\"stop\"} ", "stop"},
	    {"{\"command\":\"\"}", ""},
	    {"{\"Command\":\"status\"}", NULL},
	    {"{\"command\":1}", NULL},
	    {"{}", NULL},
	    {"[\"command\"]", NULL},
	    {"\"status\"", NULL},
	    {"status", NULL},
	    {"{\"command\":\"status\"", NULL},
	    {"", NULL},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char word[REQUEST_WORD_MAX] = "";
		bool taken = request_text(span_of(rows[i].line), "command", word);
		cr_expect_eq(taken, rows[i].word != NULL, "%s", rows[i].line);
		if (rows[i].word)
			cr_expect_str_eq(word, rows[i].word);
	}
}

Test(request, cuts_a_word_that_is_too_long)
{
	char line[REQUEST_WORD_MAX + 100], word[REQUEST_WORD_MAX];

	memset(line, 'x', sizeof(line));
	memcpy(line, "{\"command\":\"", 12);
	memcpy(line + sizeof(line) - 2, "\"}", 2);
	cr_assert(request_text((struct span){line, sizeof(line)}, "command", word));
	cr_assert_eq(strlen(word), REQUEST_WORD_MAX - 1);
}
