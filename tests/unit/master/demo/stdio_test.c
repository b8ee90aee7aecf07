/* stdio: a forked demo server on two pipes. */
#include <criterion/criterion.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "master/demo/demo.h"
#include "master/demo/protocol.h"

static pid_t child;
static FILE *to, *from;
static char *line;
static size_t capacity;

static void set_up(void)
{
	int in[2], out[2];

	cr_assert_eq(pipe(in), 0);
	cr_assert_eq(pipe(out), 0);
	child = fork();
	if (child == 0) {
		/* Not left behind by a test that failed. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		char *argv[] = {(char *)"demo-server", NULL};

		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		close(in[0]);
		close(in[1]);
		close(out[0]);
		close(out[1]);
		_exit(demo_main(1, argv));
	}
	close(in[0]);
	close(out[1]);
	to = fdopen(in[1], "w");
	from = fdopen(out[0], "r");
	setvbuf(to, NULL, _IONBF, 0);
}

static void tear_down(void)
{
	int status;

	if (to)
		fclose(to);
	while (getline(&line, &capacity, from) > 0)
		;
	fclose(from);
	cr_assert_eq(waitpid(child, &status, 0), child);
	cr_assert_eq(WIFEXITED(status) ? WEXITSTATUS(status) : -1, 0);
	free(line);
}

TestSuite(demo_stdio, .init = set_up, .fini = tear_down, .timeout = 60);

/* The next line must hold this. */
static void expect(const char *wanted)
{
	cr_assert_gt(getline(&line, &capacity, from), 0, "the end instead of %s", wanted);
	cr_assert_not_null(strstr(line, wanted), "%s instead of %s", line, wanted);
}

static void end_input(void)
{
	fclose(to);
	to = NULL;
}

#define INITIALIZE                                                             \
	"{\"jsonrpc\":\"2.0\",\"id\":0,\"method\":\"initialize\",\"params\":{" \
	"\"protocolVersion\":\"2025-11-25\",\"capabilities\":{\"elicitation\":{}}}}\n"
#define CALL(id, tool, arguments)                                                               \
	"{\"jsonrpc\":\"2.0\",\"id\":" id                                                       \
	",\"method\":\"tools/call\",\"params\":{\"name\":\"" tool "\",\"arguments\":" arguments \
	"}}\n"

Test(demo_stdio, answers_line_by_line_and_ends_with_the_input)
{
	fputs(INITIALIZE "\r\n\n" CALL("1", "echo", "{\"text\":\"a\"}") "{\"jsonrpc\":", to);
	expect("\"protocolVersion\":\"2025-11-25\"");
	expect("\"text\":\"a\"");
	fputs("\"2.0\",\"id\":2,\"method\":\"ping\"}\r\nno json\n", to);
	expect("{\"jsonrpc\":\"2.0\",\"id\":2,\"result\":{}}");
	expect("-32700");
	fputs("{\"jsonrpc\":\"2.0\",\"id\":3,\"method\":\"ping\"}", to);
	end_input();
	expect("\"id\":3");
	cr_assert_leq(getline(&line, &capacity, from), 0);
}

Test(demo_stdio, the_end_of_the_input_leaves_calls_time_but_not_questions)
{
	fputs(INITIALIZE CALL("1", "sleep", "{\"milliseconds\":50}")
		  CALL("2", "ask", "{\"question\":\"?\"}"),
	    to);
	end_input();
	expect("protocolVersion");
	expect("elicitation/create");
	expect("\"id\":2,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"The client left");
	expect("\"id\":1,\"result\":{\"content\":[{\"type\":\"text\",\"text\":\"slept 50 ms");
}

Test(demo_stdio, a_question_is_answered_and_an_update_told)
{
	fputs(INITIALIZE CALL("1", "ask", "{\"question\":\"?\"}"), to);
	expect("protocolVersion");
	expect("elicitation/create");
	fputs("{\"jsonrpc\":\"2.0\",\"id\":\"ask-1\",\"result\":{\"action\":\"accept\","
	      "\"content\":{\"answer\":\"blue\"}}}\n",
	    to);
	expect("\"text\":\"blue\"");
	fputs("{\"jsonrpc\":\"2.0\",\"id\":2,\"method\":\"resources/subscribe\",\"params\":{"
	      "\"uri\":\"demo://greeting\"}}\n" CALL("3", "touch_resource", "{}"),
	    to);
	expect("\"id\":2");
	expect("\"id\":3");
	expect("notifications/resources/updated");
}

Test(demo_stdio, a_line_that_is_too_long_is_refused_and_skipped)
{
	static char part[64 << 10];

	memset(part, 'x', sizeof(part));
	for (int i = 0; i < INCOMING_MAX / (int)sizeof(part) + 2; i++)
		cr_assert_eq(fwrite(part, 1, sizeof(part), to), sizeof(part));
	fputs("\n{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"ping\"}\n", to);
	expect("too long");
	expect("\"id\":1");
}

Test(demo_stdio, many_large_answers_do_not_pile_up_in_memory)
{
	fputs(INITIALIZE, to);
	expect("protocolVersion");
	for (int i = 0; i < 4; i++)
		fputs(CALL("1", "big", "{\"bytes\":3000000}"), to);
	for (int i = 0; i < 4; i++) {
		cr_assert_gt(getline(&line, &capacity, from), 3000000);
		cr_assert_not_null(strstr(line, "xxx\"}]}}\n"));
	}
}
