/* suggest: near words are found, far ones are not guessed. */
#include "common/suggest.h"

#include <criterion/criterion.h>
#include <string.h>

static const char *const words[] = {"listen", "limits", "log", "timeouts", "reload"};

Test(suggest, finds_the_nearest_word)
{
	cr_assert_str_eq(suggest("listn", words, 5), "listen");
	cr_assert_str_eq(suggest("LIMIT", words, 5), "limits");
	cr_assert_str_eq(suggest("timeuots", words, 5), "timeouts");
	cr_assert_str_eq(suggest("log", words, 5), "log");
}

Test(suggest, does_not_guess_when_nothing_is_near)
{
	char endless[1000];

	memset(endless, 'l', sizeof(endless) - 1);
	endless[sizeof(endless) - 1] = '\0';
	cr_assert_null(suggest("", words, 5));
	cr_assert_null(suggest("zebra", words, 5));
	cr_assert_null(suggest("listen", words, 0));
	cr_assert_null(suggest(endless, words, 5));
}
