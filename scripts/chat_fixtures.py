#!/usr/bin/env python3
"""Writes tests/fixtures/chat.json: what transformers' apply_chat_template makes of conversations.

    python scripts/chat_fixtures.py                        # needs transformers and jinja2
    python scripts/chat_fixtures.py --real DIR --out FILE  # the same for your own *.jinja files

The templates are written for this test, in the manner of families that are in wide use: their
special tokens and the parts of Jinja that they use. tests/chat.rs reads the result, and the file
that REWARD_MODEL_CHAT_FIXTURES names, if it does.
"""

import argparse
import datetime
import json
from pathlib import Path

import transformers
from transformers.utils import chat_template_utils

ROOT = Path(__file__).resolve().parent.parent
DATE = "2024-07-26"
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}


class FixedDate(datetime.datetime):
    """Templates may print the date: for them it is always the same."""

    @classmethod
    def now(cls, tz=None):
        return cls.fromisoformat(DATE)


TEMPLATES = {
    "chatml": """\
{%- if messages[0]['role'] == 'system' -%}
    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}
{%- else -%}
    {{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}
{%- endif -%}
{%- for message in messages %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) or (message.role == "assistant" and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- if message.content %}{{- '\\n' + message.content }}{%- endif %}
        {%- for call in message.tool_calls %}
            {%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
            {{- '\\n<tool_call>\\n{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}{{- call.arguments | tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.index0 == 0 or messages[loop.index0 - 1].role != "tool" %}{{- '<|im_start|>user' }}{%- endif %}
        {{- '\\n<tool_response>\\n' }}{{- message.content }}{{- '\\n</tool_response>' }}
        {%- if loop.last or messages[loop.index0 + 1].role != "tool" %}{{- '<|im_end|>\\n' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
""",
    "llama-2": """\
{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% for message in loop_messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate user/assistant') }}{% endif %}{% if loop.index0 == 0 and system_message != false %}{% set content = '<<SYS>>\\n' + system_message + '\\n<</SYS>>\\n\\n' + message['content'] %}{% else %}{% set content = message['content'] %}{% endif %}{% if message['role'] == 'user' %}{{ bos_token + '[INST] ' + content.strip() + ' [/INST]' }}{% elif message['role'] == 'assistant' %}{{ ' '  + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}""",
    "llama-3": """\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- if strftime_now is defined %}
        {%- set date_string = strftime_now("%d %b %Y") %}
    {%- else %}
        {%- set date_string = "26 Jul 2024" %}
    {%- endif %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if tools is not none %}{{- "Environment: ipython\\n" }}{%- endif %}
{{- "Today Date: " + date_string + "\\n\\n" }}
{{- system_message }}
{{- "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}
            {{- raise_exception("One tool call at a time!") }}
        {%- endif %}
        {%- set tool_call = message.tool_calls[0].function %}
        {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
        {{- '{"name": "' + tool_call.name + '", ' }}
        {{- '"parameters": ' }}
        {{- tool_call.arguments | tojson }}
        {{- "}" }}
        {{- "<|eot_id|>" }}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
""",
    "mistral": """\
{%- if messages[0]["role"] == "system" %}
    {%- set system_message = messages[0]["content"] %}
    {%- set loop_messages = messages[1:] %}
{%- else %}
    {%- set loop_messages = messages %}
{%- endif %}
{%- set user_messages = loop_messages | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace(index=0) %}
{%- for message in loop_messages %}
    {%- if not (message.role == "tool" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}
            {{- raise_exception("After the optional system message, roles must alternate") }}
        {%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in loop_messages %}
    {%- if message["role"] == "user" %}
        {%- if loop.last and system_message is defined %}
            {{- "[INST] " + system_message + "\\n\\n" + message["content"] + "[/INST]" }}
        {%- else %}
            {{- "[INST] " + message["content"] + "[/INST]" }}
        {%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS] [" }}
        {%- for tool_call in message.tool_calls %}
            {%- set out = tool_call.function|tojson %}
            {{- out[:-1] }}
            {{- ', "id": "' + tool_call.id|default("x" * 9) + '"}' }}
            {%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}
        {{- " " + message["content"] + eos_token }}
    {%- endif %}
{%- endfor %}
{{- '' if user_messages|length > 1 else '' }}
""",
    "gemma": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}{% for message in messages %}{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}""",
    "gemma-parts": """\
{{ bos_token }}
{%- set first_user_prefix = "" -%}
{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}
        {%- set first_user_prefix = messages[0]['content'] + '\\n\\n' -%}
    {%- else -%}
        {%- set first_user_prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}
    {%- endif -%}
    {%- set loop_messages = messages[1:] -%}
{%- else -%}
    {%- set loop_messages = messages -%}
{%- endif -%}
{%- for message in loop_messages -%}
    {%- set role = "model" if message['role'] == 'assistant' else message['role'] -%}
    {{ '<start_of_turn>' + role + '\\n' + (first_user_prefix if loop.first else "") }}
    {%- if message['content'] is string -%}
        {{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}{{ item['text'] | trim }}{%- endfor -%}
    {%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<start_of_turn>model\\n' }}{%- endif -%}
""",
    "phi-3": """\
{% for message in messages %}
{% if message['role'] == 'system' and message['content'] %}
{{'<|system|>
' + message['content'] + '<|end|>
'}}
{% elif message['role'] == 'user' %}
{{'<|user|>
' + message['content'] + '<|end|>
'}}
{% elif message['role'] == 'assistant' %}
    {{'<|assistant|>
' + message['content'] + '<|end|>
'}}
{% endif %}
{% endfor %}
{% if add_generation_prompt %}{{ '<|assistant|>
' }}{% else %}{{ eos_token }}{% endif %}""",
    "zephyr": """\
{% for message in messages %}
{% if message['role'] == 'user' %}
{{ '<|user|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'system' %}
{{ '<|system|>
' + message['content'] + eos_token }}
{% elif message['role'] == 'assistant' %}
{{ '<|assistant|>
'  + message['content'] + eos_token }}
{% endif %}
{% if loop.last and add_generation_prompt %}
{{ '<|assistant|>' }}
{% endif %}
{% endfor %}
""",
    "deepseek": """\
{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% set ns = namespace(is_first=true, is_tool=false, system_prompt='') %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.is_first %}{% set ns.system_prompt = ns.system_prompt + message['content'] %}{% set ns.is_first = false %}{%- else %}{% set ns.system_prompt = ns.system_prompt + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.system_prompt }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.is_tool = false -%}{{ '<｜User｜>' + message['content'] }}{%- endif %}{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}{% for tool in message['tool_calls'] %}{{ '<｜tool▁call▁begin｜>' + tool['function']['name'] + '\\n```json\\n' + (tool['function']['arguments'] | tojson) + '\\n```' }}{% endfor %}{{ '<｜end▁of▁sentence｜>' }}{%- endif %}{%- if message['role'] == 'assistant' and not message['tool_calls'] %}{% set content = message['content'] %}{% if '</think>' in content %}{% set content = content.split('</think>')[-1] %}{% endif %}{{ '<｜Assistant｜>' + content + '<｜end▁of▁sentence｜>' }}{%- endif %}{%- endfor -%}{% if add_generation_prompt and not ns.is_tool %}{{ '<｜Assistant｜><think>\\n' }}{% endif %}""",
    "command-r": """\
{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = messages[0]['content'] %}{% elif false == true %}{% set loop_messages = messages %}{% set system_message = 'You are Command.' %}{% else %}{% set loop_messages = messages %}{% set system_message = false %}{% endif %}{% if system_message != false %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' + system_message + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% for message in loop_messages %}{% set content = message['content'] %}{% if message['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% elif message['role'] == 'assistant' %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>'  + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}""",
    "vicuna": """\
{% set seps = [' ', eos_token] %}{% if messages and messages[0].role == 'system' %}{{ messages[0].content ~ seps[0] }}{% else %}{{ "A chat between a curious user and an assistant." ~ seps[0] }}{% endif %}{% for m in messages if m.role != 'system' %}{{ m.role | upper }}: {{ m.content.rstrip() }}{{ seps[loop.index0 % 2] }}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}""",
    "think": """\
{%- set ns = namespace(multi_step=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step and message.role == "user" and message.content is string and not(message.content.startswith('<tool_response>') and message.content.endswith('</tool_response>')) %}
        {%- set ns.multi_step = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- set content = message.content if message.content is string else '' %}
    {%- if message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning_content is string %}
            {%- set reasoning = message.reasoning_content %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or reasoning) %}
            {{- '<|im_start|>assistant\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im_start|>assistant\\n' + content }}
        {%- endif %}
        {{- '<|im_end|>\\n' }}
    {%- else %}
        {{- '<|im_start|>' ~ message.role ~ '\\n' ~ content ~ '<|im_end|>\\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}""",
    "generation": """\
{%- for message in messages %}
<|{{ message.role }}|>
{% if message.role == 'assistant' %}
{% generation %}
{{ message.content }}{{ eos_token }}
{% endgeneration %}
{% else %}
{{ message.content }}
  {%- generation -%}  inside {%- endgeneration -%}
{% endif %}
{%- endfor %}
""",
    "macros": """\
{%- macro fields(value, depth=0) -%}
    {%- if value is mapping -%}
        {%- for key, item in value.items() -%}
            {{ '\\n' + '  ' * depth + key + ':' }}{{ fields(item, depth + 1) }}
        {%- endfor -%}
    {%- elif value is sequence and value is not string -%}
        {%- for item in value -%}{{ '\\n' + '  ' * depth + '-' }}{{ fields(item, depth + 1) }}{%- endfor -%}
    {%- elif value is none or value is undefined -%}
        {{ ' ~' }}
    {%- else -%}
        {{ ' ' ~ value }}
    {%- endif -%}
{%- endmacro -%}
{%- set titles -%}
    {%- for message in messages -%}{{ message.role.title() }}{{ ", " if not loop.last }}{%- endfor -%}
{%- endset -%}
Speakers: {{ titles | replace('User', 'Human') }}
{%- for message in messages -%}
    {%- if message.get('hidden', false) %}{% continue %}{% endif %}
    {%- if message.content == 'STOP' %}{% break %}{% endif %}
{{ fields(message) }}
{{ message.get('name') is none }} {{ message | tojson(indent=2) }} {{ message | tojson(indent=4, sort_keys=true) }} {{ message|tojson(separators=(',', ':')) }} {{ message.content|tojson(ensure_ascii=true) }}
{%- endfor -%}
{# a comment {{ that is not }} {% read %} #}
{{ ['a', 1, 1.5, true, none, {'k': ('x', 'y')}] }} {{ messages|map(attribute='role')|join('/') }} {{ 7 // 2 }} {{ 2 ** 3 }} {{ -7 % 3 }} {{ 'a' < 'b' }} {{ [1, 2] + [3] }} {{ 'x,y'.split(',') }} {{ (1, 2)[0] }} {{ 'abc'[-2:] }} {{ 'abc'[::-1] }} {{ undefined_name }}|{{ messages[0].nothing is defined }} {{ 'it''s' }}
{{ '%s-%s' | format('a', 3) }} {{ 'a{}b{}'.format(1, 'z') }} {{ range(3)|list }} {{ messages[0].items()|list|length }} {{ dict(a=1) }} {{ 'A'.lower() + 'b'.upper() }} {{ ' x '.strip() ~ 'xx'.replace('x', 'yy', 1) }} {{ 'a b c'.split() | last }} {{ 'a.b.c'.rsplit('.', 1) }} {{ 'k' in {'k': 1} }} {{ 'prefix-x'.removeprefix('prefix-') }} {{ [3, 1, 2]|sort }} {{ 'a\\tb\\\\n' }} {{ {'b': 1, 'a': 2}|dictsort }} {{ 1 if false }} {{ none|default('d', true) }} {{ 'hello WORLD'|capitalize }} {{ 'abc'|length }} {{ 3.0 }} {{ 10 / 4 }} {{ '1' | int + 1 }} {{ [1e20, 1.5e-7, 1e16, 123456789.125, -0.0]|tojson }}
{%- raw %} {{ raw }} {% endraw %}
{% if add_generation_prompt %}
>
{% endif %}
""",
}

CALLS = [
    {"type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2, "exact": True, "limits": [1.5, 200.25, -0.001, None], "quote": "\"<&>'\n"}}}
]
CONVERSATIONS = [
    [{"role": "user", "content": "What is 2 + 2?"}],
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}],
    [
        {"role": "system", "content": "  Be brief.\n"},
        {"role": "user", "content": "Größe? 这家店的面很好吃 😀"},
        {"role": "assistant", "content": "\n Sure: \u2028 ok\t"},
        {"role": "user", "content": "  spaces at both ends  "},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone."},
    ],
    [
        {"role": "user", "content": "a", "name": "Ann"},
        {"role": "assistant", "content": "b", "reasoning_content": "\nbecause\n"},
        {"role": "user", "content": "", "hidden": True},
        {"role": "assistant", "content": "STOP"},
    ],
    [
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": "", "tool_calls": CALLS},
        {"role": "tool", "content": "12 °C", "name": "weather"},
        {"role": "assistant", "content": "It is 12 °C."},
    ],
    [{"role": "assistant", "content": "First."}, {"role": "system", "content": "late"}],
    [{"role": "user", "content": "{{ 1 + 1 }} {% raw %} </s> [INST] <|im_end|>"}],
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, help="a folder of *.jinja files to use instead")
    parser.add_argument("--out", type=Path, default=ROOT / "tests" / "fixtures" / "chat.json")
    args = parser.parse_args()

    templates = TEMPLATES
    if args.real:
        templates = {file.name: file.read_text() for file in sorted(args.real.glob("*.jinja"))}
    chat_template_utils.datetime = FixedDate
    cases = []
    for name, template in templates.items():
        rendered = []
        for at, messages in enumerate(CONVERSATIONS):
            for prompt in [False, True]:
                result = {"conversation": at, "add_generation_prompt": prompt}
                try:
                    texts, _ = chat_template_utils.render_jinja_template(
                        [messages], chat_template=template, add_generation_prompt=prompt, **TOKENS
                    )
                    result["text"] = texts[0]
                except Exception as error:
                    result["error"] = str(error)
                rendered.append(result)
        cases.append({"name": name, "template": template, "rendered": rendered})
    fixture = {
        "transformers": transformers.__version__,
        "date": DATE,
        "tokens": TOKENS,
        "conversations": CONVERSATIONS,
        "templates": cases,
    }
    args.out.parent.mkdir(parents=True, exist_ok=True)
    args.out.write_text(json.dumps(fixture, indent=1, ensure_ascii=False) + "\n")
    texts = sum("text" in result for case in cases for result in case["rendered"])
    errors = sum("error" in result for case in cases for result in case["rendered"])
    print(f"{args.out}: {len(cases)} templates, {texts} texts, {errors} errors")


if __name__ == "__main__":
    main()
