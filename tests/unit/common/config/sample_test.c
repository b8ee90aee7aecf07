/* sample: etc/margay.yaml and docs/configuration.md say what the parser does. */
#include "common/config/node.h"
#include "common/config/schema.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static char *read_file(const char *path)
{
	struct buffer text = {0};

	cr_assert_eq(config_read(path, false, &text), 0, "%s", path);
	cr_assert_eq(buffer_append(&text, "", 1, SIZE_MAX), 0);
	return text.data;
}

static struct config *parse(const char *text)
{
	/* Its users and programs need not be on this machine. */
	static const struct config_defaults checked = {.checked = true};
	struct config *config;
	struct config_errors errors;
	struct buffer out = {0};

	if (config_parse(span_of(text), &checked, &config, &errors) == 0)
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
		size_t n = strspn(word, "abcdefghijklmnopqrstuvwxyzS_");
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

static bool same_text(const char *left, const char *right)
{
	return left && right ? strcmp(left, right) == 0 : left == right;
}

static bool same_value(const struct setting *setting, const void *left, const void *right)
{
	const void *a = (const char *)left + setting->offset,
		   *b = (const char *)right + setting->offset;

	switch (setting->type) {
	case SETTING_STRUCTURE:
		return true;
	case SETTING_TEXT:
	case SETTING_PATH:
	case SETTING_LOG_FILE:
		return same_text(*(char *const *)a, *(char *const *)b);
	case SETTING_DURATION:
		return memcmp(a, b, sizeof(double)) == 0;
	case SETTING_SIZE:
		return *(const size_t *)a == *(const size_t *)b;
	case SETTING_COUNT:
	case SETTING_WORKERS:
		return *(const unsigned *)a == *(const unsigned *)b;
	case SETTING_BOOL:
		return *(const bool *)a == *(const bool *)b;
	case SETTING_LOG_LEVEL:
		return *(const enum log_level *)a == *(const enum log_level *)b;
	case SETTING_LOG_FORMAT:
		return *(const enum log_format *)a == *(const enum log_format *)b;
	}
	return false;
}

/* The node of a key of the schema: `[]` is the first of a list, a word in capitals any entry of a
 * mapping. */
static const struct node *find(const struct node *node, const char *key)
{
	size_t n = strcspn(key, ".[");
	bool any = n > 0 && strspn(key, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == n;

	if (!*key)
		return node;
	for (const struct node *child = node->first; child; child = child->next) {
		const char *rest = key + n;
		const struct node *at = child, *found;
		if (!any && (strncmp(child->key, key, n) || child->key[n]))
			continue;
		if (strncmp(rest, "[]", 2) == 0) {
			at = child->first;
			rest += 2;
		}
		if (at && (found = find(at, rest + (*rest == '.'))))
			return found;
	}
	return NULL;
}

static const void *holder(const struct setting *setting, const struct config *config)
{
	if (strncmp(setting->key, SETTING_STDIO, sizeof(SETTING_STDIO) - 1) != 0)
		return config;
	for (size_t i = 0; i < config->upstream_count; i++) {
		if (config->upstreams[i].kind == CONFIG_STDIO)
			return &config->upstreams[i].stdio;
	}
	return NULL;
}

Test(sample, the_annotated_file_parses_and_its_comments_are_the_defaults)
{
	char *text = read_file(MARGAY_SOURCE_DIR "/etc/margay.yaml"), *all = uncommented(text);
	struct config *plain = parse(text), *full = parse(all);

	cr_assert_str_eq(full->user, "margay");
	cr_assert_eq(full->listens[0].host_count, 1);
	cr_assert_eq(full->admin.origin_count, 1);
	struct config_stdio defaults = {0};
	cr_assert_eq(setting_defaults(SETTING_STDIO, &defaults), 0);
	for (size_t i = 0; i < setting_count; i++) {
		const void *left = holder(&settings[i], plain), *right = holder(&settings[i], full);
		if (settings[i].value) /* else the comment is an example */
			cr_expect(same_value(&settings[i], left ? left : &defaults, right), "%s",
			    settings[i].key);
	}
	config_free(plain);
	config_free(full);
	free(text);
	free(all);
}

Test(sample, the_annotated_file_shows_every_key)
{
	char *text = read_file(MARGAY_SOURCE_DIR "/etc/margay.yaml"), *all = uncommented(text);
	struct node *root = NULL;
	struct node_fault fault;

	cr_assert_eq(node_parse(all, strlen(all), &root, &fault), 0);
	for (size_t i = 0; i < setting_count; i++)
		cr_expect_not_null(
		    find(root, settings[i].key), "etc/margay.yaml lacks %s", settings[i].key);
	cr_expect_null(find(root, "limits.max"), "a key of another section is not found");
	node_free(root);
	free(text);
	free(all);
}

Test(sample, the_table_of_keys_is_up_to_date)
{
	static const char open[] = "<!-- keys -->\n", close[] = "<!-- /keys -->";
	char *page = read_file(MARGAY_SOURCE_DIR "/docs/configuration.md");
	struct buffer table = {0};

	cr_assert_eq(config_document(&table), 0);
	const char *begin = strstr(page, open), *end = strstr(page, close);
	cr_assert(begin && end && begin < end);
	begin += strlen(open);
	cr_assert_eq((size_t)(end - begin), buffer_length(&table), "run scripts/update-docs");
	cr_assert_eq(memcmp(begin, buffer_span(&table).p, buffer_length(&table)), 0,
	    "run scripts/update-docs");
	buffer_release(&table);
	free(page);
}
