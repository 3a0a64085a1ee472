#![cfg(feature = "text")]
//! Chat templates: the text that Python's `apply_chat_template` gives, from templates of any kind.

use std::fs;
use std::time::{Duration, Instant};

use reward_model::text::ChatTemplate;
use reward_model::{Error, Message};
use serde_json::Value;

fn messages(value: &Value) -> Vec<Message> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The templates of a fixture file, and for each what differs from Python.
fn differences(fixture: &str) -> Vec<(String, Vec<String>)> {
    let fixture: Value = serde_json::from_str(fixture).unwrap();
    let compare = |case: &Value| {
        let template = match ChatTemplate::new(case["template"].as_str().unwrap()) {
            Ok(template) => template,
            Err(error) => {
                let renders = case["rendered"].as_array().unwrap();
                let all_fail = renders.iter().all(|r| r["text"].is_null());
                return if all_fail { vec![] } else { vec![error.to_string()] };
            }
        };
        let mut template = template.with_date(fixture["date"].as_str().unwrap()).unwrap();
        for (name, token) in fixture["tokens"].as_object().unwrap() {
            template = template.with_token(name, token.as_str().unwrap());
        }
        let mut different = Vec::new();
        for rendered in case["rendered"].as_array().unwrap() {
            let at = rendered["conversation"].as_u64().unwrap() as usize;
            let prompt = rendered["add_generation_prompt"].as_bool().unwrap();
            let ours = template.render(&messages(&fixture["conversations"][at]), prompt);
            match (ours, rendered["text"].as_str()) {
                (Ok(ours), Some(text)) if ours == text => {}
                (Err(_), None) => {}
                (ours, text) => different.push(format!(
                    "conversation {at}, {prompt}:\n  ours   {ours:?}\n  python {text:?} {}",
                    rendered["error"]
                )),
            }
        }
        different
    };
    let cases = fixture["templates"].as_array().unwrap();
    cases.iter().map(|case| (case["name"].as_str().unwrap().to_owned(), compare(case))).collect()
}

/// Recorded by `scripts/chat_fixtures.py`.
#[test]
fn texts_are_those_of_python() {
    let cases = differences(include_str!("fixtures/chat.json"));
    assert!(cases.len() >= 10);
    for (name, different) in cases {
        assert!(different.is_empty(), "{name}: {}", different.join("\n"));
    }
}

/// Templates of your own: `scripts/chat_fixtures.py --real DIR --out FILE`.
#[test]
fn texts_of_real_templates_are_those_of_python() {
    let Some(file) = std::env::var_os("REWARD_MODEL_CHAT_FIXTURES") else {
        eprintln!("skipped: REWARD_MODEL_CHAT_FIXTURES names no file");
        return;
    };
    let cases = differences(&fs::read_to_string(file).unwrap());
    let agree = cases.iter().filter(|(_, different)| different.is_empty()).count();
    println!("{agree} of {} templates agree", cases.len());
    let mut different = cases.into_iter().filter(|(_, different)| !different.is_empty()).peekable();
    let all = different.peek().is_none();
    different.for_each(|(name, lines)| println!("{name}: {}", lines[0]));
    assert!(all, "templates differ");
}

#[test]
fn errors_say_what_is_wrong() {
    let message = |source: &str| {
        let result = ChatTemplate::new(source)
            .and_then(|template| template.render(&[Message::new("user", "Hi")], false));
        match result {
            Err(error @ Error::ChatTemplate { .. }) => error.to_string(),
            other => panic!("{source}: {other:?}"),
        }
    };
    for (source, expected) in [
        ("{{ raise_exception('no ' ~ messages[0].role) }}", "refuses this conversation: no user"),
        ("{% for m in messages %}", "syntax error"),
        ("\n\n{{ messages[0].content.nope() }}", "line 3"),
        ("{% include 'x' %}", "{% include %} is not supported"),
        ("{{ 'a' + 1 }}", "unsupported types"),
        ("{{ messages[0].a.b }}", "undefined"),
        (&"x".repeat(200_000), "at most 131072"),
    ] {
        let found = message(source);
        assert!(found.starts_with("chat template: ") && found.contains(expected), "{found}");
    }
}

/// Each of these would run for ever, or need more memory than there is.
#[test]
fn hostile_templates_are_errors_in_bounded_time() {
    let many = |line: &str| line.repeat(60);
    let grow = |set: &str| {
        format!(
            "{{% set n = namespace(s='abcdefgh', l=[1], d={{}}) %}}{{% for i in range(100000) %}}\
             {{% set {set} %}}{{% endfor %}}{{{{ n.s|length }}}}{{{{ n.l }}}}{{{{ n.d }}}}"
        )
    };
    let big = "{% set s = 'a' * 10000000 %}{% set l = range(90000)|list %}\
               {% for i in range(100000) %}{% for j in range(100000) %}";
    let slow = |what: &str| format!("{big}{what}{{% endfor %}}{{% endfor %}}");
    let hostile = [
        "{{ 'a' * 1000000000000 }}".into(),
        "{{ [1] * 1000000000000 }}".into(),
        "{{ [[[]] * 100000] * 100000 }}".into(),
        "{{ 'x' * 1000000 * 1000000 }}".into(),
        format!("{{% set s = 'aaaaaaaa' %}}{}{{{{ s|length }}}}", many("{% set s = s ~ s %}")),
        format!("{{% set s = 'aaaaaaaa' %}}{}{{{{ s|length }}}}", many("{% set s = s + s %}")),
        format!("{{% set s = [1] %}}{}{{{{ s|length }}}}", many("{% set s = s + s %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = [s, s] %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = (s, s) %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = s, s %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = {'a': s, 'b': s} %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = dict(a=s, b=s) %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = namespace(a=s, b=s) %}")),
        format!("{{% set s = [1] %}}{}{{{{ s }}}}", many("{% set s = s|zip(s)|list %}")),
        format!(
            "{{% set s = [1] %}}{}{{{{ s == s ~ '' }}}}",
            many("{% with t = [s, s] %}{% set s = t %}")
        ),
        grow("n.s = n.s ~ n.s"),
        grow("n.s = n.s + n.s"),
        grow("n.s = n.s.replace('a', 'aa')"),
        grow("n.l = n.l + n.l"),
        grow("n.l = n.l + [1]"),
        grow("n.l = [n.l]"),
        grow("n.l = [n.l, n.l]"),
        grow("n.d = {'a': n.d, 'b': n.d}"),
        "{% set n = namespace() %}{% set n.n = n %}{{ n }}".into(),
        "{% set n = namespace() %}{% set n.n = [n] %}{{ n|tojson }}".into(),
        "{% set n = namespace() %}{% set n.n = dict(a=n) %}{{ n == n }}".into(),
        "{% macro m(a) %}{{ m([a, a]) }}{{ a }}{% endmacro %}{{ m([1]) }}".into(),
        "{% macro m(a) %}{{ m(a + a) }}{{ a }}{% endmacro %}{{ m([1, 2]) }}".into(),
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}".into(),
        "{% macro m() %}{{ m() }}{{ m() }}{% endmacro %}{{ m() }}".into(),
        "{% for x in [[[1]]] recursive %}{{ loop([[[1]]]) }}{% endfor %}".into(),
        "{% set x %}{% for i in range(99999) %}{% for j in range(99999) %}xxxxxxxxxxxxxxxx\
         {% endfor %}{% endfor %}{% endset %}"
            .into(),
        "{{ range(1000000000000) }}".into(),
        "{{ (range(99999)|list) * 99999 }}".into(),
        "{{ '{:>999999999999}'.format('a') }}".into(),
        "{{ '%999999999999d'|format(1) }}".into(),
        "{{ ['a' * 100000] * 100000 | join('b') }}{{ (['a' * 100000] * 100000) | join('b') }}"
            .into(),
        "{{ 'a\nb'|indent(999999999999) }}".into(),
        "{{ [1]|tojson(indent=999999999999) }}".into(),
        "{{ (['a' * 100000] * 100000)|tojson }}".into(),
        "{{ strftime_now('%Y' * 1000000) }}".into(),
        "{{ ('a,' * 20000000).split(',')|length }}".into(),
        "{% set s = 'a' * 10000000 %}{{ s.strip(s ~ 'b') }}".into(),
        "{{ 'a'.replace('', 'b' * 1000000).replace('', 'b' * 1000000) }}".into(),
        slow("{{ i }}"),
        slow("{{ s[9999999] }}"),
        slow("{% if s < s %}{% endif %}"),
        slow("{% if {s: 1}[s] %}{% endif %}"),
        slow("{% if l.count(-1) %}{% endif %}"),
        slow("{% if l|sum %}{% endif %}"),
        slow("{% if s.find('b') %}{% endif %}"),
        slow("{% if s.lower().upper() %}{% endif %}"),
        slow("{% if l == l + [1] %}{% endif %}"),
        format!("{{{{ {}1{} }}}}", "(".repeat(10_000), ")".repeat(10_000)),
        format!("{{{{ {}1{} }}}}", "[".repeat(10_000), "]".repeat(10_000)),
        format!("{{{{ 1{} }}}}", "+1".repeat(50_000)),
        format!("{{{{ 1{} }}}}", " if 1 else 1".repeat(9_000)),
        format!("{{{{ a{} }}}}", ".a".repeat(50_000)),
        format!("{{{{ {}1 }}}}", "not ".repeat(30_000)),
        format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
        format!("{{{{ 1{} }}}}", "|int".repeat(20_000)),
        "{% if 1 %}".repeat(10_000),
        format!("{{% if 0 %}}{}{{% endif %}}", "{% elif 0 %}".repeat(10_000)),
        "{{".repeat(50_000),
        "{% macro __bounded_step() %}{% endmacro %}".into(),
        "{{".into(),
        "{% set".into(),
    ];
    for source in hostile {
        let start = Instant::now();
        let result = ChatTemplate::new(source.clone())
            .and_then(|template| template.render(&[Message::new("user", "Hi")], true));
        let shown: String = source.chars().take(120).collect();
        let time = start.elapsed();
        if std::env::var_os("REWARD_MODEL_SHOW_TIMES").is_some() {
            let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
            let memory = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
            eprintln!(
                "{time:?} {memory} {shown:?} {:.100}",
                format!("{:?}", result.as_ref().err())
            );
        }
        assert!(matches!(result, Err(Error::ChatTemplate { .. })), "{shown}: not an error");
        assert!(time < Duration::from_secs(10), "{shown}: {time:?}");
    }
}

#[test]
fn ordinary_use_is_far_from_the_bounds() {
    let fixture: Value = serde_json::from_str(include_str!("fixtures/chat.json")).unwrap();
    let turn =
        [Message::new("user", "word ".repeat(400)), Message::new("assistant", "好".repeat(900))];
    let long: Vec<Message> = turn.into_iter().cycle().take(1000).collect();
    for case in fixture["templates"].as_array().unwrap() {
        let template = ChatTemplate::new(case["template"].as_str().unwrap()).unwrap();
        let template = template.with_token("bos_token", "<s>").with_token("eos_token", "</s>");
        let text = template.render(&long, false).unwrap();
        assert!(text.len() > 1_000_000, "{}", case["name"]);
    }
}
