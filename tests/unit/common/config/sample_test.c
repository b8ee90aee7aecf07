/* sample: etc/margay.yaml and docs/configuration.md say what the parser does. */
#include "common/config/schema.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char *read_file(const char *path)
{
	struct buffer text = {0};

	cr_assert_eq(config_read(path, &text), 0, "%s", path);
	cr_assert_eq(buffer_append(&text, "", 1, SIZE_MAX), 0);
	return text.data;
}

static struct config *parse(const char *text)
{
	struct config *config;
	struct config_errors errors;
	struct buffer out = {0};

	if (config_parse(text, strlen(text), &config, &errors) == 0)
		return config;
	cr_assert_eq(config_errors_print(&errors, "margay.yaml", &out), 0);
	cr_assert_fail("%.*s", (int)buffer_length(&out), buffer_span(&out).p);
	return NULL;
}

/* Uncomment each line whose comment is a key: "# user: margay", "#   max: 100000  # text". Prose
 * begins otherwise. */
static char *uncommented(const char *text)
{
	char *out = calloc(1, strlen(text) + 1), *to = out;

	for (const char *line = text; *line;) {
		const char *end = strchr(line, '\n');
		size_t indent = strspn(line, " ");
		const char *word = line + indent + 2 + strspn(line + indent + 2, " ");
		size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyz_");
		bool is_key = line[indent] == '#' && line[indent + 1] == ' ' && n > 0 &&
			      word[n] == ':' && (word[n + 1] == ' ' || word[n + 1] == '\n');
		if (is_key) {
			memset(to, ' ', indent);
			to += indent;
			line += indent + 2;
		}
		memcpy(to, line, (size_t)(end + 1 - line));
		to += end + 1 - line;
		line = end + 1;
	}
	return out;
}

Test(sample, the_annotated_file_parses_and_its_comments_are_the_defaults)
{
	char *text = read_file(MARGAY_SOURCE_DIR "/etc/margay.yaml"), *all = uncommented(text);
	struct config *plain = parse(text), *full = parse(all);

	cr_assert_str_eq(full->user, "margay");
	cr_assert_eq(full->listens[0].host_count, 1);
	cr_assert_eq(full->admin.origin_count, 1);
	for (size_t i = 0; i < setting_count; i++) {
		const struct setting *s = &settings[i];
		const char *left = (const char *)plain + s->offset,
			   *right = (const char *)full + s->offset;
		if (s->type == SETTING_DURATION)
			cr_expect_eq(*(const double *)(const void *)left,
			    *(const double *)(const void *)right, "%s", s->key);
		else if (s->type == SETTING_SIZE)
			cr_expect_eq(*(const size_t *)(const void *)left,
			    *(const size_t *)(const void *)right, "%s", s->key);
		else if (s->type == SETTING_COUNT || s->type == SETTING_WORKERS)
			cr_expect_eq(*(const unsigned *)(const void *)left,
			    *(const unsigned *)(const void *)right, "%s", s->key);
	}
	config_free(plain);
	config_free(full);
	free(text);
	free(all);
}

Test(sample, the_annotated_file_shows_every_key)
{
	char *text = read_file(MARGAY_SOURCE_DIR "/etc/margay.yaml");

	for (size_t i = 0; i < setting_count; i++) {
		char indented[64], alone[64];
		const char *last = strrchr(settings[i].key, '.');
		snprintf(indented, sizeof(indented), " %s:", last ? last + 1 : settings[i].key);
		snprintf(alone, sizeof(alone), "\n%s:", settings[i].key);
		cr_expect(strstr(text, indented) || strstr(text, alone), "etc/margay.yaml lacks %s",
		    settings[i].key);
	}
	free(text);
}

Test(sample, the_table_of_keys_is_up_to_date)
{
	char *page = read_file(MARGAY_SOURCE_DIR "/docs/configuration.md");
	struct buffer table = {0};

	cr_assert_eq(config_document(&table), 0);
	cr_assert_eq(buffer_append(&table, "", 1, SIZE_MAX), 0);
	cr_assert_not_null(strstr(page, buffer_span(&table).p), "run scripts/update-docs");
	buffer_release(&table);
	free(page);
}
