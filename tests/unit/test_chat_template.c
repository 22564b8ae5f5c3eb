/*
 * Chat templates: recognised from what models' files hold (shortened where
 * that is long), and a conversation as each of them writes it.
 */
#include "engine/engine.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define ROLE_MUST_ALTERNATE \
	"{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Conversation " \
	"roles must alternate user/assistant/user/assistant/...') }}{% endif %}"

/* Mistral's official templates differ in the blanks around their tokens. */
#define MISTRAL_3(inst, reply) \
	"{%- for message in loop_messages %}{%- if message[\"role\"] == \"user\" %}{%- if tools is not none " \
	"and (message == user_messages[-1]) %}{{- \"[AVAILABLE_TOOLS] [\" }}{%- endif %}{%- if loop.last " \
	"and system_message is defined %}{{- \"" inst "\" + system_message + \"\\n\\n\" + message[\"content\"] " \
	"+ \"[/INST]\" }}{%- else %}{{- \"" inst "\" + message[\"content\"] + \"[/INST]\" }}{%- endif %}" \
	"{%- elif message[\"role\"] == \"assistant\" %}{{- " reply " + eos_token}}{%- endif %}{%- endfor %}"

#define LLAMA_2(bos) \
	"{% for message in loop_messages %}{% if loop.index0 == 0 and system_message != false %}{% set " \
	"content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}" \
	"{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ " bos \
	"'[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + " \
	"content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"

#define ZEPHYR(newline) \
	"{% for message in messages %}\n{% if message['role'] == 'user' %}\n" \
	"{{ '<|user|>" newline "' + message['content'] + eos_token }}\n" \
	"{% elif message['role'] == 'system' %}\n" \
	"{{ '<|system|>" newline "' + message['content'] + eos_token }}\n" \
	"{% elif message['role'] == 'assistant' %}\n" \
	"{{ '<|assistant|>" newline "'  + message['content'] + eos_token }}\n{% endif %}\n" \
	"{% if loop.last and add_generation_prompt %}\n{{ '<|assistant|>' }}\n{% endif %}\n{% endfor %}"

/* talk: system S, user U, assistant A, user V, and what is written before a reply; BOS <s>, EOS </s>. */
static const struct known {
	const char *name, *text, *talk;
} known[] = {
	{ "chatml", /* SmolLM2 */
	    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ "
	    "'<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging "
	    "Face<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
	    "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
	    "'<|im_start|>assistant\n' }}{% endif %}",
	    "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA"
	    "<|im_end|>\n<|im_start|>user\nV<|im_end|>\n<|im_start|>assistant\n" },
	{ "llama2", LLAMA_2("bos_token + "),
	    "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]A </s><s>[INST] V [/INST]" },
	{ "llama2", "{{ bos_token }}" LLAMA_2(""),
	    "[INST] <<SYS>>\nS\n<</SYS>>\n\nU [/INST]A </s>[INST] V [/INST]" },
	{ "llama3",
	    "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = "
	    "'<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'+ message['content'] | "
	    "trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% "
	    "endif %}{{ content }}{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}",
	    "<|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user"
	    "<|end_header_id|>\n\nU<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nA"
	    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nV<|eot_id|>"
	    "<|start_header_id|>assistant<|end_header_id|>\n\n" },
	{ "mistral", /* 7B v0.2 */
	    "{{ bos_token }}{% for message in messages %}" ROLE_MUST_ALTERNATE "{% if message['role'] == "
	    "'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}{% elif message['role'] == "
	    "'assistant' %}{{ message['content'] + eos_token}}{% endif %}{% endfor %}",
	    "[INST] S\n\nU [/INST]A</s>[INST] V [/INST]" },
	{ "mistral-v1",
	    "{%- for message in loop_messages %}{%- if message['role'] == 'user' %}{%- if loop.first and "
	    "system_message is defined %}{{- ' [INST] ' + system_message + '\\n\\n' + message['content'] "
	    "+ ' [/INST]' }}{%- else %}{{- ' [INST] ' + message['content'] + ' [/INST]' }}{%- endif %}"
	    "{%- elif message['role'] == 'assistant' %}{{- ' ' + message['content'] + eos_token}}",
	    " [INST] S\n\nU [/INST]A</s> [INST] V [/INST]" },
	{ "mistral-v3", MISTRAL_3("[INST] ", "\" \" + message[\"content\"]|trim"),
	    "[INST] S\n\nU[/INST]A</s>[INST] V[/INST]" },
	{ "mistral-v3-tekken", MISTRAL_3("[INST]", "message[\"content\"]"), /* Nemo */
	    "[INST]S\n\nU[/INST]A</s>[INST]V[/INST]" },
	{ "mistral-v7",
	    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '[INST] ' "
	    "+ message['content'] + '[/INST]' }}{% elif message['role'] == 'system' %}{{ "
	    "'[SYSTEM_PROMPT] ' + message['content'] + '[/SYSTEM_PROMPT]' }}{% elif message['role'] == "
	    "'assistant' %}{{ ' ' + message['content'] + eos_token }}",
	    "[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST] U[/INST]A</s>[INST] V[/INST]" },
	{ "mistral-v7-tekken",
	    "{%- if messages[0]['role'] == 'system' %}{{- '[SYSTEM_PROMPT]' + system_message + "
	    "'[/SYSTEM_PROMPT]' }}{%- for message in loop_messages %}{%- if message['role'] == 'user' "
	    "%}{{- '[INST]' + message['content'] + '[/INST]' }}",
	    "[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST]U[/INST]A</s>[INST]V[/INST]" },
	{ "gemma",
	    "{% for message in messages %}" ROLE_MUST_ALTERNATE "{% if (message['role'] == 'assistant') "
	    "%}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ "
	    "'<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% "
	    "endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}",
	    "<start_of_turn>user\nS\n\nU<end_of_turn>\n<start_of_turn>model\nA<end_of_turn>\n"
	    "<start_of_turn>user\nV<end_of_turn>\n<start_of_turn>model\n" },
	{ "zephyr", ZEPHYR("\n"),
	    "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n" },
	{ "zephyr", ZEPHYR("\\n"),
	    "<|system|>\nS</s>\n<|user|>\nU</s>\n<|assistant|>\nA</s>\n<|user|>\nV</s>\n<|assistant|>\n" },
	{ "phi3",
	    "{{ bos_token }}{% for message in messages %}{{'<|' + message['role'] + '|>' + '\n' + "
	    "message['content'] + '<|end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
	    "'<|assistant|>\n' }}{% else %}{{ eos_token }}{% endif %}",
	    "<|system|>\nS<|end|>\n<|user|>\nU<|end|>\n<|assistant|>\nA<|end|>\n<|user|>\nV<|end|>\n"
	    "<|assistant|>\n" },
	{ "phi4",
	    "{% for message in messages %}{% if (message['role'] == 'system') "
	    "%}{{'<|im_start|>system<|im_sep|>' + message['content'] + '<|im_end|>'}}{% elif "
	    "(message['role'] == 'user') %}{{'<|im_start|>user<|im_sep|>' + message['content'] + "
	    "'<|im_end|><|im_start|>assistant<|im_sep|>'}}",
	    "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|>U<|im_end|>"
	    "<|im_start|>assistant<|im_sep|>A<|im_end|><|im_start|>user<|im_sep|>V<|im_end|>"
	    "<|im_start|>assistant<|im_sep|>" },
	{ "phi4-mini",
	    "{{- '<|system|>' + system_message -}}{% for tool in tools %}{{- '<|tool|>' + "
	    "(tool['function'] | tojson) + '<|/tool|>' -}}{% endfor %}{{- '<|end|>' -}}{%- for message "
	    "in messages -%}{{- '<|' + message['role'] + '|>' -}}{{- message['content'] -}}{{- '<|end|>' "
	    "-}}{%- endfor -%}{{- '<|assistant|>' -}}",
	    "<|system|>S<|end|><|user|>U<|end|><|assistant|>A<|end|><|user|>V<|end|><|assistant|>" },
};

/* Files whose template is none of those; some look like one. */
static const char *const unknown[] = {
	/* Falcon 3 */
	"{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|user|>\\n' + "
	    "message['content'] + '\\n' }}{% elif message['role'] == 'assistant' %}{{ '<|assistant|>\\n' + "
	    "message['content'] + eos_token }}{% endif %}{% endfor %}{{ '<|assistant|>\\n' }}",
	/* GLM 4 */
	"[gMASK]<sop>{% for item in messages %}<|{{ item['role'] }}|>{{ item['metadata'] }}\\n"
	    "{{ item['content'] }}{% endfor %}{% if add_generation_prompt %}<|assistant|>\\n{% endif %}",
	/* SmolVLM */
	"<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}{{': '}}"
	    "{{ line['text'] }}<end_of_utterance>\\n{% endfor %}",
	/* Orion */
	"{% for message in messages %}{{ 'Human: ' + message['content'] + '\\n\\nAssistant: ' + eos_token }}",
	"x",
};

static const char *
talk(const struct chat_template *t)
{
	static char text[1024];

	snprintf(text, sizeof text, "%sS%s%sU%s%sA%s%sV%s%s", t->system_prefix, t->system_suffix,
	    t->system_opens_user ? "" : t->user_prefix, t->user_suffix, t->assistant_prefix, t->assistant_suffix,
	    t->user_prefix, t->user_suffix, t->assistant_prefix);
	return text;
}

static void
known_templates_are_recognised(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
		struct chat_template t;

		chat_template_recognise(&t, known[i].text, "<s>", "</s>");
		assert_true(t.recognised);
		assert_string_equal(t.name, known[i].name);
		assert_string_equal(talk(&t), known[i].talk);
	}
}

static void
unknown_templates_fall_back_to_plain_text(void **state)
{
	struct chat_template t;

	(void)state;
	for (size_t i = 0; i < sizeof unknown / sizeof unknown[0]; i++) {
		chat_template_recognise(&t, unknown[i], "<s>", "</s>");
		assert_false(t.recognised);
		assert_string_equal(t.name, "plain");
		assert_string_equal(talk(&t), "S\n\nU\nA\nV\n");
	}
}

static void
a_file_without_a_template_is_plain_text(void **state)
{
	struct chat_template t;

	(void)state;
	chat_template_recognise(&t, NULL, "", "");
	assert_true(t.recognised);
	assert_string_equal(t.name, "plain");
	assert_null(t.stops[0]);
	chat_template_recognise(&t, "", "", "");
	assert_true(t.recognised);
}

static void
replies_end_with_these_tokens(void **state)
{
	struct chat_template t;

	(void)state;
	chat_template_recognise(&t, known[0].text, "", "");
	assert_string_equal(t.stops[0], "<|im_end|>");
	assert_string_equal(t.stops[1], "<|endoftext|>");
	assert_null(t.stops[2]);
	chat_template_recognise(&t, known[3].text, "", "");
	assert_string_equal(t.stops[2], "<|end_of_text|>");
	assert_null(t.stops[CHAT_TEMPLATE_STOPS]);
}

/* The file's EOS is foreign: where its text is too long the template cannot be used. */
static void
an_eos_of_any_length_is_survived(void **state)
{
	char eos[200];
	struct chat_template t;

	(void)state;
	for (size_t n = 0; n < sizeof eos; n++) {
		memset(eos, 'e', n);
		eos[n] = '\0';
		chat_template_recognise(&t, ZEPHYR("\n"), "", eos);
		assert_int_equal(t.recognised, n + 1 < CHAT_TEMPLATE_TEXT);
		assert_string_equal(t.name, t.recognised ? "zephyr" : "plain");
		assert_int_equal(strlen(t.user_suffix), t.recognised ? n + 1 : 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(known_templates_are_recognised),
		cmocka_unit_test(unknown_templates_fall_back_to_plain_text),
		cmocka_unit_test(a_file_without_a_template_is_plain_text),
		cmocka_unit_test(replies_end_with_these_tokens),
		cmocka_unit_test(an_eos_of_any_length_is_survived),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
